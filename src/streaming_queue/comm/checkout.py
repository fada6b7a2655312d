"""Backends and runners that lie in a checkout: `script/streaming_queue/{protocol_backend,runner}` (the guide's 2.1).

Each folder is one more place of the package of its name, after the package's own. Only the checkout that this very
package runs from is looked into; the working directory has no say.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from pathlib import Path

from streaming_queue.errors import ConfigError


def extend_from_checkout(search: MutableSequence[str]) -> None:
    """Extend the `__path__` of a package by its folder in the checkout. Raises like `extend`.

    Nothing happens where the package was installed as files.
    """
    package = Path(search[0])
    source = package.parents[1]
    if source.name == "src":
        extend(search, source.parent / "script" / "streaming_queue" / package.name)


def extend(search: MutableSequence[str], folder: Path) -> None:
    """Extend the `__path__` of a package by `folder`, if there is one; again changes nothing.

    Raises ConfigError where a backend or runner has the name of one of ours: which of them is meant?
    """
    if str(folder) in search or not folder.is_dir():
        return
    ours = {path.stem for path in Path(search[0]).iterdir()}
    for path in folder.iterdir():
        if path.stem in ours and not path.stem.startswith("__"):
            raise ConfigError(f"{path}: the project has a {path.stem!r} of its own; give yours another name")
    search.append(str(folder))


def backends(search: MutableSequence[str]) -> list[Path]:
    """The folders of the backends in the checkout, by the `__path__` of `protocol_backend`."""
    return sorted(comm.parent for folder in search[1:] for comm in Path(folder).glob("*/comm.py"))
