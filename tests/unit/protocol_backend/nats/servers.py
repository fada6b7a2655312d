"""A real `nats-server` that a test configures, kills and starts again, and one that only pretends."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from nats.aio.client import Client
from unit.comm.agents import soon

from streaming_queue.comm import local_logins

PROGRAM = Path(sysconfig.get_path("scripts")) / "nats-server"


async def settled(client: Client) -> None:
    """Return once the server has seen all that `client` did; nats-py's PING overtakes what it has still to write."""
    await client.flush()
    await client.flush()


async def kept(port: int) -> Mapping[str, str]:
    """The logins that this user's processes find for a server on loopback."""
    return await asyncio.to_thread(local_logins.find, "127.0.0.1", port)


class NatsServer:
    def __init__(self, directory: Path, configuration: str = "") -> None:
        self._configuration = directory / "server.conf"
        self._configuration.write_text(configuration)
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, on the port of before; returns when it is ready."""
        command = [PROGRAM, "-a", "127.0.0.1", "-p", str(self.port or -1), "-c", self._configuration]
        self.process: subprocess.Popen[str] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "Listening for client connections" in line:
                self.port = int(line.rpartition(":")[2])
            if "Server is ready" in line:
                return
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """End it at once; idempotent."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@asynccontextmanager
async def pretender(
    greeting: bytes, *, pong: bytes = b"PONG\r\n", hang_up: bool = False
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A TCP server that says `greeting`, and `pong` to each PING; its port, and what it is told."""
    told: list[bytes] = []
    serving: set[object] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(writer)
        writer.write(greeting)
        try:
            while not hang_up and (data := await reader.read(4096)):
                told.append(data)
                writer.write(pong * data.count(b"PING\r\n"))
        except ConnectionError:
            pass
        finally:
            writer.close()
            serving.discard(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], told
    server.close()
    await soon(lambda: not serving)
