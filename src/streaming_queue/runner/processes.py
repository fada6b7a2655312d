"""Worker processes: started, started again when they die, ended with the run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import orjson

from streaming_queue.config import Config
from streaming_queue.config.load import OPERATOR_VARIABLE
from streaming_queue.config.redaction import revealed
from streaming_queue.errors import ConnectError, error_from_event
from streaming_queue.telemetry.console import Output

T = TypeVar("T")

READY_S = 60.0
STOP_S = 5.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
LASTED_S = 30.0
"""After a process that lived at least so long, the pause is short again."""
MODULE = "streaming_queue.runner.worker_process"


class WorkerProcess:
    """One worker. Its process ends with this process: it reads a pipe that only this process writes.

    `moved` gets the address of a later process if it differs. A process that ended within `lasted_s` is started again
    after a pause that doubles each time.
    """

    def __init__(
        self,
        config: Config,
        agent_id: str,
        *,
        host: str,
        port: int,
        output: Output,
        moved: Callable[[str, str], Awaitable[None]],
        lasted_s: float = LASTED_S,
    ) -> None:
        self.agent_id = agent_id
        self._moved = moved
        self._lasted_s = lasted_s
        self._started_again = asyncio.Event()
        self._request: dict[str, Any] = {"config": revealed(config), "agent_id": agent_id, "host": host, "port": port}
        self._output = output
        self._process: Process | None = None
        self._restarter: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The id of the present process."""
        return self._process.pid if self._process else None

    async def start(self) -> str:
        """Start the process. Return the worker's address when the worker is ready.

        Raises:
            ConfigError: the configuration is unusable; the text comes from the worker.
            ConnectError: the process ended, or was not ready within a minute.
        """
        process, address = await self._launch()
        self._request["port"] = urlsplit(address).port  # the next process takes the same port
        self._restarter = asyncio.create_task(self._restart(process, address), name=f"restart:{self.agent_id}")
        return address

    async def started_again(self) -> None:
        """Wait until the next process is ready."""
        await self._started_again.wait()

    async def _launch(self) -> tuple[Process, str]:
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # otherwise a file of the working directory could replace a library
            *("-m", MODULE),
            stdin=PIPE,
            stdout=PIPE,
            env=_environment(),
        )
        order, replies = cast("StreamWriter", process.stdin), cast("StreamReader", process.stdout)
        order.write(orjson.dumps(self._request) + b"\n")
        try:
            async with asyncio.timeout(READY_S):
                await order.drain()
                line = await replies.readline()
        except (TimeoutError, ConnectionError):
            line = b""
        try:
            reply = orjson.loads(line)
        except orjson.JSONDecodeError:
            reply = {}
        if "error" in reply:
            raise error_from_event(reply["error"], self.agent_id)
        if "ready" not in reply:
            await self._end(process)
            raise ConnectError(
                f"{self.agent_id}: its process was not ready within {READY_S:g} s (it ended with {process.returncode})"
            )
        return process, str(reply["ready"])

    async def _restart(self, process: Process, address: str) -> None:
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while True:
            began = loop.time()
            code = await process.wait()  # at once, if the last start failed
            if loop.time() - began > self._lasted_s:
                pause_s = FIRST_PAUSE_S
            self._output.warning(f"{self.agent_id}: its process {process.pid} ended ({code}); starting another")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            try:
                process, now_at = await self._launch()
                if now_at != address:
                    address = now_at
                    await self._moved(self.agent_id, address)
                self._started_again.set()
                self._started_again = asyncio.Event()
            except Exception as error:  # this task is the only one that starts the worker again
                self._output.error(f"{self.agent_id}: {error}")

    async def close(self) -> None:
        """End the process by its pipe; kill it after five seconds."""
        if self._restarter is not None:
            self._restarter.cancel()
            await asyncio.wait({self._restarter})
        if self._process is not None:
            await self._end(self._process)

    async def _end(self, process: Process) -> None:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def start_all(starts: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all `starts`, or the first error when all have ended."""
    results = await asyncio.gather(*starts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("list[T]", results)


def _environment() -> dict[str, str]:
    """The environment of a worker: that of this process without the operator's credential."""
    return {name: value for name, value in os.environ.items() if name != OPERATOR_VARIABLE}
