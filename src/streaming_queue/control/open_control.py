"""Opens the control of a run: in the process that works on the run, or here if no process does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from streaming_queue.control.base import RunControl
from streaming_queue.control.client import ControlClient
from streaming_queue.control.stopped import StoppedRun
from streaming_queue.errors import AuthError, ConnectError, SendTimeoutError
from streaming_queue.queue.lock import Owner, find_owner, is_left_behind
from streaming_queue.report.run_directory import RunDirectory

PATIENCE_S = 5.0
"""Longest time between a run's directory and its control endpoint."""
POLL_S = 0.1
REPORT_S = 60.0
"""Longest time that a drained run takes to write its files."""


@asynccontextmanager
async def open_control(path: Path, *, trust: bool = False) -> AsyncIterator[RunControl]:
    """The control of the run in the directory `path`. Waits at most 5 s for a run that starts.

    `trust` is as in `StoppedRun`.

    Raises:
        ConfigError: the directory is not a run's.
        ConnectError: the process of the run takes no commands: it ends, or it is a command like this one.
        AuthError: the run is another user's.
    """
    directory = await asyncio.to_thread(RunDirectory.open, path)
    owner = await _owner(directory)
    if owner is None:
        # The manifest may have changed since the first read.
        yield StoppedRun(await asyncio.to_thread(RunDirectory.open, path), trust=trust)
        return
    control = owner.control or {}
    async with ControlClient(path, str(control.get("address")), str(control.get("token"))) as client:
        yield client


async def drained(path: Path) -> None:
    """Wait until no process works on the draining run in `path`.

    Raises:
        SendTimeoutError: the drain takes a minute longer than the run's `scheduler.drain_s`.
    """
    directory = await asyncio.to_thread(RunDirectory.open, path)
    timeout_s = directory.manifest["config"]["scheduler"]["drain_s"] + REPORT_S
    until = time.monotonic() + timeout_s
    while owner := await _find_owner(directory):
        if time.monotonic() > until:
            raise SendTimeoutError(f"{path}: {owner} still works on it after {timeout_s:g} s")
        await asyncio.sleep(POLL_S)


async def _owner(directory: RunDirectory) -> Owner | None:
    until = time.monotonic() + PATIENCE_S
    while True:
        owner = await _find_owner(directory)
        if owner is None and not await asyncio.to_thread(_is_starting, directory):
            return None
        if owner is not None and owner.control is not None:
            return owner
        if time.monotonic() > until:
            break
        await asyncio.sleep(POLL_S)
    if owner is None:
        return None
    raise ConnectError(
        f"{directory.path} is in use by {owner}, which takes no commands now: it starts or ends, or it is a "
        "command like this one; try again"
    )


async def _find_owner(directory: RunDirectory) -> Owner | None:
    try:
        return await asyncio.to_thread(find_owner, directory.queue_path)
    except PermissionError as error:
        raise AuthError(
            f"{directory.path}: the lock file belongs to the user of the run, who is another user: {error.filename}"
        ) from error


def _is_starting(directory: RunDirectory) -> bool:
    """Whether the run has its directory and may not have its queue yet."""
    running = RunDirectory.open(directory.path).manifest["state"] == "running"
    return running and not is_left_behind(directory.queue_path)
