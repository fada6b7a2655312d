"""Backends and runners of a checkout: `script/streaming_queue/{protocol_backend,runner}` (the guide's 2.1).

Each folder extends the package of the same name; the package's own folder comes first. Only the checkout of the running
package counts; the working directory does not.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from pathlib import Path

from streaming_queue.errors import ConfigError


def extend_from_checkout(search: MutableSequence[str]) -> None:
    """Add the folder of the checkout to the `__path__` of a package. Raises like `extend`.

    A package that was installed as files stays unchanged.
    """
    package = Path(search[0])
    source = package.parents[1]
    if source.name == "src":
        extend(search, source.parent / "script" / "streaming_queue" / package.name)


def extend(search: MutableSequence[str], folder: Path) -> None:
    """Add `folder` to the `__path__` of a package, if the folder exists; idempotent.

    Raises ConfigError if a backend or runner has the name of one of ours.
    """
    if str(folder) in search or not folder.is_dir():
        return
    ours = {path.stem for path in Path(search[0]).iterdir()}
    for path in folder.iterdir():
        if path.stem in ours and not path.stem.startswith("__"):
            raise ConfigError(f"{path}: the project already has {path.stem!r}; give yours another name")
    search.append(str(folder))


def backends(search: MutableSequence[str]) -> list[Path]:
    """The folders of the checkout's backends, from the `__path__` of `protocol_backend`."""
    return sorted(comm.parent for folder in search[1:] for comm in Path(folder).glob("*/comm.py"))
