"""A server that is a process of ours: begun with a command, spoken to over its standard input and output."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import cast

from streaming_queue.comm.http_client import MAX_ANSWER_BYTES
from streaming_queue.errors import ConfigError

logger = logging.getLogger(__name__)

LEAVE_S = 1.0
"""How long a server may take to end when its input does, and again when it is told to (MCP, lifecycle, "Shutdown")."""
PASSED_ON = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER")
"""The variables that every server gets: our others may be secrets."""

_GUARDED = """\
{ read -r _ < "/dev/fd/$1"; sleep 1; kill -KILL 0; } </dev/null >/dev/null 2>&1 &
shift
exec "$@"
"""
"""The server, and beside it a watcher that outlives neither: its `read` returns when our end of the pipe is closed,
be it because we were killed."""


class Child:
    """A running server, in a process group of its own; it ends with its owner, however that one ends."""

    def __init__(self, process: Process, lifeline: int, name: str) -> None:
        self.pid = process.pid
        self.output = cast("asyncio.StreamReader", process.stdout)
        self.input = cast("asyncio.StreamWriter", process.stdin)
        self.last_words = ""
        self._process = process
        self._lifeline = lifeline
        self._words = asyncio.create_task(self._listen(), name=f"stderr:{name}")
        self._ending: asyncio.Task[int | None] | None = None

    async def _listen(self) -> None:
        """Read what the server has to say to people; unread, it would fill the pipe and stop the server."""
        words = cast("asyncio.StreamReader", self._process.stderr)
        while said := await words.read(4096):
            text = said.decode("utf-8", "replace").strip()
            logger.debug("server %d: %s", self.pid, text)
            if text:
                self.last_words = text.splitlines()[-1][-300:]

    async def end(self) -> int | None:
        """End the server and whatever it began: by closing its input, then by signals; bounded, idempotent.

        Its exit code, None where it had to be ended by force.
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
        os.close(self._lifeline)
        await self._process.wait()
        with suppress(OSError):
            await self.input.wait_closed()
        await asyncio.wait({self._words}, timeout=LEAVE_S)
        self._words.cancel()
        await asyncio.wait({self._words})
        return code

    async def _left(self) -> int | None:
        """The exit code, None where it has not ended after a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._process.wait()
        return self._process.returncode

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


async def begin(command: Sequence[str], passed_on: Collection[str], name: str) -> Child:
    """Start a server with the variables of `PASSED_ON`, and those in `passed_on`; `name` stands in errors.

    Raises ConfigError where the command cannot be run.
    """
    if sys.platform == "win32":
        raise ConfigError(
            f"{name}: a server of our own needs a POSIX system: start it yourself and give its http address"
        )
    wanted = {*PASSED_ON, *passed_on}
    environment = {key: value for key, value in os.environ.items() if key in wanted}
    theirs, ours = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", _GUARDED, "sh", str(theirs), *command,
            stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=MAX_ANSWER_BYTES,
            env=environment, pass_fds=(theirs,), start_new_session=True,
        )  # fmt: skip
    except BaseException as error:
        os.close(ours)
        if isinstance(error, OSError | ValueError):
            raise ConfigError(f"{name}: the command cannot be run: {error}") from error
        raise
    finally:
        os.close(theirs)
    return Child(process, ours, name)
