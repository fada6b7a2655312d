"""How to install what an optional part of the package needs."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires

DISTRIBUTION = "streaming-queue"


def install_command(extra: str) -> str:
    """The command that installs the requirements of an extra, wherever the package itself came from.

    They are named one by one, for they are in package indexes and the package is not.
    """
    try:
        stated = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # used from its sources, without being installed
        stated = []
    wanted = [need.partition(";")[0].strip() for need in stated if re.search(rf";.*\bextra == ['\"]{extra}['\"]", need)]
    return "pip install " + (" ".join(f"'{need}'" for need in wanted) or f"'{DISTRIBUTION}[{extra}]'")
