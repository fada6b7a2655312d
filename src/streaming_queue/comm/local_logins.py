"""Logins at servers that this user's processes run here, kept by host and port for the user's other processes.

Each server has a private file, which counts as long as the process that wrote it lives. All calls block.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from streaming_queue.errors import ConfigError
from streaming_queue.private_files import read_private, state_folder, write_private


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept for one server. `content` is one line."""

    path: Path
    content: bytes

    def write(self) -> None:
        """Keep it, and remove the entries of processes that have gone. Raises ConfigError where that fails."""
        write_private(self.path, self.content)
        for path in self.path.parent.glob("[!.]*"):
            with suppress(ConfigError):
                _document(path)

    def remove(self) -> None:
        """Remove it, unless another server has its place by now. Raises ConfigError as `read_private`."""
        if read_private(self.path) == self.content:
            self.path.unlink(missing_ok=True)


def entry(host: str, port: int, logins: Mapping[str, str]) -> Entry:
    """The entry, to be written, of a server of this process; `logins` are users and their passwords."""
    return Entry(_path(host, port), _line({"logins": dict(logins)}))


def find(host: str, port: int) -> Mapping[str, str]:
    """The users and passwords for the server at `host` and `port`; empty where none are kept.

    Raises ConfigError where the file is open to others or cannot be read.
    """
    document = _document(_path(host, port))
    if document is not None and "at" in document:
        document = _document(_path(*document["at"]))
    return {} if document is None else document.get("logins", {})


def relay(host: str, port: int, own_port: int) -> Entry | None:
    """Keep the logins for the server at `host` and `port` also for `127.0.0.1:own_port`, a relay to it in this process.

    Returns the entry to remove in the end; None where no logins are kept.
    """
    if not find(host, port):
        return None
    kept = Entry(_path("127.0.0.1", own_port), _line({"at": [host, port]}))
    kept.write()
    return kept


def _path(host: str, port: int) -> Path:
    """Homes may be shared by machines, whose loopbacks are not the same."""
    return state_folder() / "servers" / (platform.node() or "localhost") / f"{host}:{port}"


def _line(document: dict[str, Any]) -> bytes:
    return orjson.dumps({"pid": os.getpid(), **document}) + b"\n"


def _document(path: Path) -> dict[str, Any] | None:
    """What an entry says; None where there is none, or its process has gone: then it is removed."""
    content = read_private(path)
    if content is None:
        return None
    try:
        document: dict[str, Any] = orjson.loads(content)
        alive = _lives(document["pid"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: it holds no logins; remove it, a new one is made") from error
    if alive:
        return document
    Entry(path, content).remove()
    return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:  # there is none, or it is another user's
        return False
    return True
