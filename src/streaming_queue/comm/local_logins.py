"""Logins for servers of this user's processes on this machine, by host and port, for the user's other processes.

Each server has a private file; the file is valid while the process that wrote it lives. All calls block.
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
    """The file for one server. `content` is one line."""

    path: Path
    content: bytes

    def write(self) -> None:
        """Write the file, and remove the files of processes that ended. Raises ConfigError if this fails."""
        write_private(self.path, self.content)
        for path in self.path.parent.glob("[!.]*"):
            with suppress(ConfigError):
                _document(path)

    def remove(self) -> None:
        """Remove the file, unless another server has replaced it. Raises ConfigError like `read_private`."""
        if read_private(self.path) == self.content:
            self.path.unlink(missing_ok=True)


def entry(host: str, port: int, logins: Mapping[str, str]) -> Entry:
    """The entry of a server of this process, not yet written; `logins` are users and their passwords."""
    return Entry(_path(host, port), _line({"logins": dict(logins)}))


def find(host: str, port: int) -> Mapping[str, str]:
    """The users and passwords for the server at `host` and `port`; empty without a file.

    Raises ConfigError if other users can read the file, or if it cannot be read.
    """
    document = _document(_path(host, port))
    if document is not None and "at" in document:
        document = _document(_path(*document["at"]))
    return {} if document is None else document.get("logins", {})


def relay(host: str, port: int, own_port: int) -> Entry | None:
    """Copy the logins for the server at `host` and `port` to `127.0.0.1:own_port`, a relay in this process.

    Returns the entry, which the caller removes at the end; None without logins.
    """
    if not find(host, port):
        return None
    kept = Entry(_path("127.0.0.1", own_port), _line({"at": [host, port]}))
    kept.write()
    return kept


def _path(host: str, port: int) -> Path:
    """The path has the machine's name: machines may share a home, but not their loopback addresses."""
    return state_folder() / "servers" / (platform.node() or "localhost") / f"{host}:{port}"


def _line(document: dict[str, Any]) -> bytes:
    return orjson.dumps({"pid": os.getpid(), **document}) + b"\n"


def _document(path: Path) -> dict[str, Any] | None:
    """The content of a file; None without one. If its process has ended, remove the file and return None."""
    content = read_private(path)
    if content is None:
        return None
    try:
        document: dict[str, Any] = orjson.loads(content)
        alive = _lives(document["pid"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: the file holds no logins; remove it, the server writes a new one") from error
    if alive:
        return document
    Entry(path, content).remove()
    return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:  # no such process, or it belongs to another user
        return False
    return True
