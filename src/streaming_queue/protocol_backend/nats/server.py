"""Our own `nats-server`, if none is configured. It ends with its owner, also if the owner is killed."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sysconfig
import tempfile
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import orjson

from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.host.listener import listen
from streaming_queue.comm.local_logins import Entry
from streaming_queue.errors import BackendNotInstalledError, ConfigError, ConnectError
from streaming_queue.extras import install_command
from streaming_queue.private_files import write_private
from streaming_queue.protocol_backend.nats.address import Server
from streaming_queue.protocol_backend.nats.logins import Logins

logger = logging.getLogger(__name__)

MAX_PAYLOAD_BYTES = 32 * 1024 * 1024
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 3.0

LOCAL_PREFIX = "stq"
"""The default prefix of the agents' subjects at our own server."""

_CONFIGURATION = {"max_payload": MAX_PAYLOAD_BYTES, "ping_interval": "5s", "ping_max": 2}
"""The settings without a flag: the largest message, and the pings that a client must answer."""

_SUPERVISOR = """\
directory=$1
shift
"$@" &
server=$!
exec 2>&-
read -r kept
read -r content
read -r _
read -r now <"$kept"
[ "$now" = "$content" ] && rm -f "$kept"
kill "$server"
wait "$server"
rm -rf "$directory"
"""
"""Standard input is a pipe from the owner: `read` returns when the owner closes it or dies.

The owner first writes the path of the file with the logins, and its content: so the file of another server stays.
"""

_FILE = "server.conf"
_LISTENING, _READY = "Listening for client connections on ", "Server is ready"


class LocalServer:
    """A running server without JetStream, so that it stores nothing.

    `address` is its address on this machine. It has only the logins in `logins`.
    """

    def __init__(self, address: Server, logins: Logins, process: Process, directory: Path) -> None:
        self.address = address
        self.logins = logins
        self.pid = process.pid
        self._process = process
        self._directory = directory
        words = cast("StreamReader", process.stderr)
        self._log = asyncio.create_task(_log(words), name=f"nats-server:{address.port}")

    async def stop(self) -> None:
        """End the server and remove its files; idempotent, bounded."""
        await _end(self._process, self._directory)
        self._log.cancel()
        await asyncio.wait({self._log})


async def start(host: str, port: int, options: HostOptions, name: str, *, prefix: str = LOCAL_PREFIX) -> LocalServer:
    """Start a server that listens on `host` and `port` (0: a free one); returns when it is ready.

    It serves agents with subjects under `prefix`. Errors begin with `name`.

    Raises:
        BackendNotInstalledError: `nats-server` is not installed.
        ConfigError: the address is not allowed, or the server does not start.
        ConnectError: the port is in use.
    """
    program = await asyncio.to_thread(_program)
    # A token would not help here: the connection is not encrypted.
    listener = await listen(host, port, replace(options, allow_public=True), name)
    address = listener.socket.getsockname()[0]
    listener.socket.close()
    ip = ip_address(address.partition("%")[0])
    if not (options.allow_public or ip.is_loopback):
        raise ConfigError(
            f"{name}: refusing to start a server at {address} that other machines reach: it does not encrypt; set "
            "nats.url to a server with TLS, or allow_public (network.allow_public)"
        )
    logins = Logins.new()
    directory = await asyncio.to_thread(_directory, logins.authorization(prefix))
    command = (program, "-a", address, "-p", str(port or -1), "-c", str(directory / _FILE))
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", _SUPERVISOR, "sh", str(directory), *command,
        stdin=PIPE, stdout=DEVNULL, stderr=PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            taken = await _ready(cast("StreamReader", process.stderr), name)
        reached = address if ip.is_loopback else listener.authority.rpartition(":")[0].strip("[]")
        await _keep(logins.entry(reached, taken), process)
    except BaseException as error:
        await _end(process, directory)
        if isinstance(error, TimeoutError):
            raise ConfigError(f"{name}: {program} is not ready after {START_TIMEOUT_S:g} s") from error
        raise
    return LocalServer(Server("nats", reached, taken), logins, process, directory)


def _directory(authorization: Mapping[str, Any]) -> Path:
    """A new directory with the configuration in it; only this user can read it."""
    directory = Path(tempfile.mkdtemp(prefix="stq-nats-"))
    write_private(directory / _FILE, orjson.dumps({**_CONFIGURATION, "authorization": authorization}))
    return directory


async def _keep(entry: Entry, process: Process) -> None:
    """Store the logins for this user's other processes; the supervisor removes them after the owner's end."""
    cast("StreamWriter", process.stdin).write(bytes(entry.path) + b"\n" + entry.content)
    try:
        await asyncio.to_thread(entry.write)
    except ConfigError as error:
        logger.warning("no other process can ask the agents at this nats-server: %s", error)


def _program() -> str:
    """The program from the extra, else from the path."""
    places = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
    program = shutil.which("nats-server", path=places)
    if program is None:
        raise BackendNotInstalledError(
            f"nats-server is not installed: {install_command('nats')}, or set nats.url to a running server"
        )
    return program


async def _ready(words: StreamReader, name: str) -> int:
    """Wait until the server is ready; returns its port."""
    port, last = 0, deque[str](maxlen=3)
    while said := await words.readline():
        line = said.decode("utf-8", "replace").strip()
        if _LISTENING in line:
            port = int(line.rpartition(":")[2])
        if _READY in line:
            return port
        last.append(line)
    raise ConnectError(f"{name}: nats-server does not start: {' '.join(last)}", retryable=False)


async def _log(words: StreamReader) -> None:
    """Log the server's lines; a full pipe would block the server."""
    while said := await words.read(4096):
        logger.debug("nats-server: %s", said.decode("utf-8", "replace").strip())


async def _end(process: Process, directory: Path) -> None:
    """Let the supervisor end the server and itself; kill both where that takes too long."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
