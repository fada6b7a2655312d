"""A server that is our child process: a command starts it, and we talk over its standard input and output."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import cast

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES
from streaming_queue.errors import ConfigError

logger = logging.getLogger(__name__)

LEAVE_S = 1.0
"""The time, in seconds, for a server to exit after its input ends, and after a signal (MCP, "Shutdown")."""
PASSED_ON = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER")
"""The environment variables that every server gets; our other variables may be secrets."""

KEPT = 4096
MOST_WORDS = 300
"""The longest part of a server's standard error that we keep and show, in characters."""

_WATCH = 'read -r _; sleep 1; kill -s KILL -- "-$1"'
"""A watcher process for the server, in a shell. Its `read` returns when our end of its input is closed, also if we were
killed. Then the server has a second to notice that its own input has ended."""


class Child:
    """A running server, in its own process group; it ends with its owner, also if the owner is killed."""

    def __init__(self, process: Process, watcher: Process, name: str) -> None:
        self.pid = process.pid
        self.output = cast("asyncio.StreamReader", process.stdout)
        self.input = cast("asyncio.StreamWriter", process.stdin)
        self._said = ""
        self._process = process
        self._watcher = watcher
        self._words = asyncio.create_task(self._listen(), name=f"stderr:{name}")
        self._ending: asyncio.Task[int | None] | None = None

    async def _listen(self) -> None:
        """Read the server's standard error: a full pipe would block the server."""
        words = cast("asyncio.StreamReader", self._process.stderr)
        while said := await words.read(4096):
            text = said.decode("utf-8", "replace")
            logger.debug("server %d: %s", self.pid, text.strip())
            self._said = (self._said + text)[-KEPT:]

    @property
    def last_words(self) -> str:
        """The end of the last line of its standard error; may be empty."""
        lines = self._said.strip().splitlines()
        return lines[-1][-MOST_WORDS:] if lines else ""

    async def end(self) -> int | None:
        """End the server and its child processes: close its input, then send signals; bounded, idempotent.

        Returns its exit code, None if it was killed.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name=f"end:{self.pid}")
        return await asyncio.shield(self._ending)

    async def _end(self) -> int | None:
        self.input.close()
        code = await self._left()
        if code is None:
            self._signal(signal.SIGTERM)
            await self._left()
        self._signal(signal.SIGKILL)
        await self._process.wait()
        await _dismiss(self._watcher)
        with suppress(OSError):
            await self.input.wait_closed()
        await asyncio.wait({self._words}, timeout=LEAVE_S)
        self._words.cancel()
        await asyncio.wait({self._words})
        return code

    async def _left(self) -> int | None:
        """The exit code, None if the server has not ended within `LEAVE_S`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._process.wait()
        return self._process.returncode

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


async def begin(command: Sequence[str], passed_on: Collection[str], name: str) -> Child:
    """Start a server with the variables in `PASSED_ON` and `passed_on`; errors show `name`.

    Raises ConfigError if the command cannot be run.
    """
    wanted = {*PASSED_ON, *passed_on}
    environment = {key: value for key, value in os.environ.items() if key in wanted}
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=MAX_EVENT_BYTES,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: the command cannot be run: {error}") from error
    try:
        watcher = await asyncio.create_subprocess_exec(
            "sh", "-c", _WATCH, "sh", str(process.pid),
            stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True,
        )  # fmt: skip
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return Child(process, watcher, name)


async def _dismiss(watcher: Process) -> None:
    """End a watcher whose server has ended."""
    with suppress(ProcessLookupError):
        watcher.kill()
    await watcher.wait()
