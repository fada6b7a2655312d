"""The install command of an optional part of the package."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires

DISTRIBUTION = "streaming-queue"


def install_command(extra: str) -> str:
    """The command that installs the requirements of an extra.

    It names each requirement, because package indexes have the requirements and not the package.
    """
    try:
        stated = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # used from its sources, not installed
        stated = []
    wanted = [need.partition(";")[0].strip() for need in stated if re.search(rf";.*\bextra == ['\"]{extra}['\"]", need)]
    return "pip install " + (" ".join(f"'{need}'" for need in wanted) or f"'{DISTRIBUTION}[{extra}]'")
