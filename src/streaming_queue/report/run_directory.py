"""The directory of a run, with its queue, its manifest and its results."""

from __future__ import annotations

import os
import platform
import re
import secrets
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Self

import orjson

from streaming_queue import __version__
from streaming_queue.errors import ConfigError, QueueError, StreamingQueueError, disk_error
from streaming_queue.links import NO_LINK, refuse_links
from streaming_queue.report.files import replacing, sync_directory
from streaming_queue.telemetry.json_lines import encode

FORMAT = 1
"""Version of the directory's layout and of `run.json`; it grows if an older program cannot read them."""

QUEUE_FILE = "queue.db"
"""The queue's file in a run's directory."""

FILES = (
    *("run.json", "results.jsonl", "results.json"),
    *(f"{QUEUE_FILE}{end}" for end in ("", "-wal", "-shm", "-journal", ".lock")),
)
"""All files of a run."""

STATES = ("running", "done", "stopped", "failed")


def versions() -> dict[str, str]:
    """The versions of `python`, `streaming_queue`, `sqlite` and `platform`."""
    return {
        "python": platform.python_version(),
        "streaming_queue": __version__,
        "sqlite": sqlite3.sqlite_version,
        "platform": platform.platform(),
    }


class RunDirectory:
    """The directory of one run. `create`, `open` and `update` block: in an event loop, call them from a thread.

    `manifest` is the content of `run.json`: format, run_id, created, state (running, done, stopped, failed),
    protocol, config, versions, seed, provider (name, model, mock, reason), source, summary.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.queue_path = path / QUEUE_FILE
        self.manifest_path = path / "run.json"
        self.results_jsonl = path / "results.jsonl"
        """One row per question, in the order in which they end."""
        self.results_json = path / "results.json"
        """The whole report."""

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.manifest["run_id"])

    @classmethod
    def create(cls, path: str | Path | None, protocol: str, manifest: Mapping[str, Any]) -> Self:
        """A directory for a new run; the first file in it is a durable `run.json`.

        Without `path` it is `runs/<YYYYmmdd-HHMMSS>-<protocol>`, with `-2`, `-3` ... if that is taken. An existing
        directory must hold no queue; its results are kept as `*.previous`. `manifest` holds the caller's part (config
        with its secrets redacted, seed, provider, source); the other keys are added.

        Raises:
            ConfigError: the directory holds a run already, or cannot be written.
            DiskFullError: no space is left.
            QueueError: the disk failed.
        """
        now = datetime.now().astimezone()
        stamp = now.strftime("%Y%m%d-%H%M%S")
        facts = {
            "format": FORMAT,
            "run_id": f"{stamp}-{secrets.token_hex(4)}",
            "created": now.isoformat(timespec="milliseconds"),
            "state": "running",
            "protocol": protocol,
            "config": {},
            "versions": versions(),
        } | dict.fromkeys(("seed", "provider", "source", "summary"))
        wanted = Path(path) if path is not None else Path("runs")
        try:
            if path is None:
                directory = cls(_new_directory(wanted, f"{stamp}-{_plain_name(protocol)}"), {})
            else:
                _make_directory(wanted)
                directory = cls(wanted, {})
                directory.refuse_a_run()
            directory.manifest = facts
            directory._replace({**facts, **manifest})
            for stale in (directory.results_jsonl, directory.results_json):
                if stale.exists():
                    stale.replace(stale.with_name(f"{stale.name}.previous"))
        except OSError as error:
            path = error.filename or wanted
            raise disk_error(path, error) or ConfigError(
                f"{path}: the run's directory cannot be written: {error.strerror}; choose another -o"
            ) from error
        return directory

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the directory of an earlier run, to resume or to read it.

        Raises:
            ConfigError: there is no directory, or its `run.json` is missing, unreadable or of a newer version.
        """
        directory = cls(Path(path), {})
        if not directory.path.exists():
            raise ConfigError(f"{path}: no such directory; give the directory of a run, as `stq run` printed it")
        directory.refuse_links()
        directory.manifest = directory._read_manifest()
        return directory

    def update(self, **changes: Any) -> None:
        """Change keys of the manifest; `run.json` is replaced whole and durably.

        Raises:
            ConfigError: the state is not one of `STATES`.
            DiskFullError: no space is left; nothing has changed.
            StreamingQueueError: the file cannot be written; nothing has changed.
        """
        try:
            self._replace(self.manifest | changes)
        except OSError as error:
            raise disk_error(self.manifest_path, error) or StreamingQueueError(
                f"{self.manifest_path}: cannot be written: {error.strerror}; no answer is lost: "
                f"`stq resume {self.path}` writes all files again"
            ) from error

    def put_aside(self) -> Path:
        """Move the queue and the rows into a new directory in this one, with a copy of `run.json`, and return it.

        The queue goes last: a process that dies before leaves the run as it was, without result files.

        Raises:
            QueueError: the queue's file has a log, so it was not closed cleanly; or the disk failed.
            StreamingQueueError: a file cannot be moved.
        """
        log = self.queue_path.with_name(f"{QUEUE_FILE}-wal")
        try:
            if log.exists() and log.stat().st_size:
                raise QueueError(f"{log}: the queue was not closed cleanly; resume the run without --source-changed")
            target = _new_directory(self.path, f"before-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
            with replacing(target / self.manifest_path.name) as file:
                file.write(encode(self._read_manifest(), indent=True) + b"\n")
            for moved in (self.results_json, self.results_jsonl, self.queue_path):
                if moved.exists():
                    moved.rename(target / moved.name)
                    sync_directory(target)
            sync_directory(self.path)
        except OSError as error:
            path = error.filename or self.path
            raise disk_error(path, error) or StreamingQueueError(
                f"{path}: cannot be moved: {error.strerror}; nothing is lost: resume the run again"
            ) from error
        return target

    def _replace(self, manifest: dict[str, Any]) -> None:
        """Replace `run.json`. Raises ConfigError and OSError."""
        if manifest["state"] not in STATES:
            raise ConfigError(f"{self.manifest_path}: state {manifest['state']!r} is not one of {', '.join(STATES)}")
        with replacing(self.manifest_path) as file:
            file.write(encode(manifest, indent=True) + b"\n")
        self.manifest = manifest

    def _read_manifest(self) -> dict[str, Any]:
        path = self.manifest_path
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | NO_LINK), "rb") as file:
                manifest: Any = orjson.loads(file.read())
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f"{self.path} is not the directory of a run: it has no run.json") from None
        except OSError as error:
            raise disk_error(path, error) or ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"{path}: damaged, not valid JSON ({error}); restore it, or start a new run") from error
        if not isinstance(manifest, dict) or not isinstance(found := manifest.get("format"), int):
            raise ConfigError(f"{path}: damaged, or not a run's manifest: it states no format version")
        if found > FORMAT:
            raise ConfigError(
                f"{path}: format {found} is newer than this program's ({FORMAT}); "
                "update streaming-queue to go on with this run"
            )
        missing = [key for key in ("run_id", "state", "protocol") if not isinstance(manifest.get(key), str)]
        if missing:
            raise ConfigError(f"{path}: damaged: {', '.join(missing)} is missing; restore it, or start a new run")
        return manifest

    def refuse_links(self) -> None:
        """Raise ConfigError if a file of the run is a link; the directory itself may be one."""
        refuse_links(self.path / name for name in FILES)

    def refuse_a_run(self) -> None:
        """Raise ConfigError if the directory holds a run, finished or not, or a link in place of a file."""
        self.refuse_links()
        if not self.queue_path.exists():
            return
        try:
            manifest = self._read_manifest()
        except ConfigError as error:
            raise ConfigError(
                f"{self.path} holds the queue of a run that `stq resume` cannot read ({error}); choose another -o"
            ) from error
        if manifest["state"] == "done":
            raise ConfigError(
                f"{self.path} holds a finished run ({manifest['run_id']}): choose another -o for a new one; "
                f"`stq resume {self.path}` shows its summary and asks no question again"
            )
        raise ConfigError(
            f"{self.path} holds a run that is not finished ({manifest['run_id']}, {manifest['state']}): "
            f"`stq resume {self.path}` continues it; choose another -o for a new one"
        )


def unfinished(path: str | Path) -> bool:
    """Whether the directory holds an unfinished run. Raises ConfigError if it cannot be read. Blocks."""
    directory = Path(path)
    return (directory / QUEUE_FILE).exists() and RunDirectory.open(directory).manifest["state"] != "done"


def _plain_name(protocol: str) -> str:
    """`protocol` as a file name, so that no text becomes a path."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", protocol).strip("-")[:40] or "run"


def _make_directory(path: Path) -> None:
    """Make a directory and its parents, durably. Raises ConfigError if `path` is a file."""
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file; -o takes a directory")
    missing = [parent for parent in (path, *path.parents) if not parent.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_directory(made.parent)


def _new_directory(parent: Path, name: str) -> Path:
    """Make a new directory: `name` or the first free one of `name-2`, `name-3` ..."""
    _make_directory(parent)
    for number in count(1):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        sync_directory(parent)
        return path
    raise AssertionError("unreachable: there is always a free number")
