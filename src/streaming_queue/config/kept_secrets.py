"""Settings with secrets that `run.json` hides as `***`. The state folder of the user who began the run keeps them.

The settings serve a resumed run on this machine only. They apply only to the unchanged configuration: an
edited one could send a secret elsewhere. All calls block.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from streaming_queue.private_files import read_private, state_folder, write_private


def keep(run_id: str, config: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Keep `values`, by place, for the run whose `run.json` has this `config`. An empty mapping forgets earlier values.

    Raises ConfigError if they cannot be written.
    """
    path = _path(run_id)
    if values:
        write_private(path, json.dumps({"config": _digest(config), "values": dict(values)}).encode())
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def kept(run_id: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The values kept for a run whose `run.json` has this `config`. Empty after a change, and on another machine.

    Raises ConfigError if other users may read the file.
    """
    content = read_private(_path(run_id))
    try:
        content = json.loads(content or b"{}")
        values = content["values"] if content["config"] == _digest(config) else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return values if isinstance(values, dict) else {}


def _path(run_id: str) -> Path:
    # A run's id is read from its directory: it never becomes a path.
    return state_folder() / "runs" / f"{hashlib.sha256(run_id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.json"


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
