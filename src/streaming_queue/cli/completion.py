"""Values that a shell completes: protocols, runs, keys of settings, types of failure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def protocols(incomplete: str) -> list[str]:
    """Names of protocols."""
    from streaming_queue.comm import registry

    return _matching(sorted(registry.known()), incomplete)


def runs(incomplete: str) -> list[str]:
    """Runs in `runs/`, or in the folder that is typed already; without runs, the folders in it."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    place = folder if incomplete else Path("runs")
    folders = sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
    return _matching(map(str, [path for path in folders if (path / "run.json").exists()] or folders), incomplete)


def keys(incomplete: str) -> list[str]:
    """Keys of settings, each with its equals sign."""
    from streaming_queue.config import KEYS

    return _matching((f"{key}=" for key in KEYS.names), incomplete)


def reasons(incomplete: str) -> list[str]:
    """Types of failure that a dead letter may have."""
    from streaming_queue.control.record import REASONS

    return _matching(sorted(REASONS), incomplete)


def _matching(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
