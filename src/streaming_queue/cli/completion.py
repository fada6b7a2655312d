"""What a shell completes: protocols, runs, keys of settings, types of failure."""

from __future__ import annotations

from pathlib import Path


def protocols(incomplete: str) -> list[str]:
    """Names of protocols."""
    from streaming_queue.comm import registry

    return [name for name in sorted(registry.known()) if name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Directories of runs: those below `runs/`, or below the folder that is typed already."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    places = [folder] if incomplete else [Path("runs")]
    found = [path for place in places if place.is_dir() for path in sorted(place.iterdir()) if path.is_dir()]
    return [str(path) for path in found if str(path).startswith(incomplete)]


def keys(incomplete: str) -> list[str]:
    """Keys of settings, each with its equals sign."""
    from streaming_queue.config import KEYS

    return [f"{key}=" for key in KEYS.names if key.startswith(incomplete)]


def reasons(incomplete: str) -> list[str]:
    """Types of failure that a dead letter may have."""
    from streaming_queue.control.record import REASONS

    return [reason for reason in sorted(REASONS) if reason.startswith(incomplete)]
