"""A document of others is taken from where the configuration allows, and from nowhere else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from unit.comm.agents import Echo
from unit.protocol_backend.agora.scripted import answer
from unit.protocol_backend.agora.test_host import tell

from streaming_queue.config import Config
from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.agora.comm import AgoraCommBackend
from streaming_queue.protocol_backend.agora.document import data_uri, hash_of
from streaming_queue.protocol_backend.agora.sources import Sources
from streaming_queue.runner.backends import create_backend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

DOCUMENT = "---\nname: Shout\ndescription: Loud.\nmultiround: false\n---\nAnswer in capitals. {braces}"
NAME = hash_of(DOCUMENT)


class Canary:
    """A server that counts who comes."""

    def __init__(self) -> None:
        self.hits = 0
        self.port = 0
        self.response = answer(DOCUMENT.encode())

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Canary]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.hits += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.response)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        yield self
        server.close()


@pytest.fixture
async def canary():
    async with Canary().serving() as canary:
        yield canary


async def status(port: int, *sources: str, name: str = NAME) -> str:
    return (await tell(port, "hello", name, protocolSources=list(sources))).json["status"]


async def test_nothing_is_fetched_unless_it_is_said(spawn: Any, canary: Canary):
    port, _ = await spawn(Echo())
    sources = [f"{canary.origin}/document.txt", f"http://localhost:{canary.port}/", data_uri(DOCUMENT)]
    assert await status(port, *sources) == "rejected"
    assert canary.hits == 0


async def test_the_legitimate_twin_is_fetched_once_and_followed(spawn: Any, canary: Canary):
    port, _ = await spawn(Echo(), sources=(canary.origin,))
    for _ in range(2):
        told = (await tell(port, "hello", NAME, protocolSources=[f"{canary.origin}/document.txt"])).json
        assert told["status"] == "success"
        assert told["body"].endswith(f"The protocol document:\n\n{DOCUMENT}\n\nThe message:\n\nhello")
    assert canary.hits == 1
    assert (await tell(port, {"a": 1}, NAME)).json["body"].endswith('The message:\n\n{"a":1}')


async def test_a_document_that_comes_along_is_followed_where_that_is_said(spawn: Any):
    port, _ = await spawn(Echo(), sources=("data:",))
    assert await status(port, data_uri(DOCUMENT)) == "success"
    assert await status(port, "data:,another", name=hash_of("yet another")) == "rejected"
    assert await status(port, "data:;base64,!", name=hash_of("x")) == "rejected"


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1.example:{port}/",
        "http://user@127.0.0.1:{port}/",
        "https://127.0.0.1:{port}/",
        "http://127.0.0.2:{port}/",
        "http://localhost:{port}/",
        "//127.0.0.1:{port}/",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/",
        "http://[",
    ],
)
async def test_only_the_origin_that_is_allowed_is_asked(spawn: Any, canary: Canary, source: str):
    port, _ = await spawn(Echo(), sources=(canary.origin,))
    assert await status(port, source.format(port=canary.port)) == "rejected"
    assert canary.hits == 0
    assert await status(port, f"{canary.origin}/") == "success"


async def test_a_name_that_leads_to_a_private_address_is_not_asked(spawn: Any, canary: Canary, caplog: Any):
    caplog.set_level("INFO")
    origin = f"http://localhost:{canary.port}"
    port, _ = await spawn(Echo(), sources=(origin,))
    assert await status(port, f"{origin}/document.txt") == "rejected"
    assert canary.hits == 0
    assert "which is not a public address" in caplog.text


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "169.254.169.254", "192.168.1.1", "::1", "fd00::1", "::ffff:10.0.0.1", "0.0.0.0"]
)
async def test_every_kind_of_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str, caplog: Any):
    caplog.set_level("INFO")
    ipv4, ipv6 = (socket.AF_INET, (address, 80)), (socket.AF_INET6, (address, 80, 0, 0))
    family, sockaddr = ipv6 if ":" in address else ipv4
    found = [(family, socket.SOCK_STREAM, 6, "", sockaddr)]

    async def resolve(*_: object, **__: object) -> list[Any]:
        return found

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    sources = Sources(["http://rebound.example"])
    assert await sources.find(NAME, ["http://rebound.example/x"]) is None
    assert "which is not a public address" in caplog.text
    await sources.aclose()


@pytest.mark.parametrize(
    "response",
    [
        answer(b"another document"),
        answer(DOCUMENT.encode(), "404 Not Found"),
        answer(b"x" * 70_000),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000,
        answer(b"\xff\xfe"),
        b"garbage",
        b"",
    ],
    ids=range(7),
)
async def test_what_is_not_the_document_is_rejected(spawn: Any, canary: Canary, response: bytes):
    canary.response = response
    port, _ = await spawn(Echo(), sources=(canary.origin,))
    assert await status(port, f"{canary.origin}/") == "rejected"
    canary.response = answer(DOCUMENT.encode())
    assert await status(port, f"{canary.origin}/") == "success"


async def test_redirects_are_not_followed(spawn: Any, canary: Canary):
    async with Canary().serving() as thief:
        canary.response = answer(b"", "302 Found", f"location: {thief.origin}/")
        port, _ = await spawn(Echo(), sources=(canary.origin, thief.origin))
        assert await status(port, f"{canary.origin}/") == "rejected"
        assert thief.hits == 0


async def test_a_list_of_sources_is_bounded(spawn: Any, canary: Canary):
    port, _ = await spawn(Echo(), sources=(canary.origin,))
    assert await status(port, *[f"{canary.origin}/{number}" for number in range(50)], name="AAAA") == "rejected"
    assert canary.hits == 4


@pytest.mark.parametrize(
    "source", ["", "example.org", "ftp://example.org", "https://example.org/x", "https://u:p@h", "http://["]
)
def test_a_source_is_data_or_an_origin(source: str):
    with pytest.raises(ConfigError, match=r"agora\.sources: ") as caught:
        AgoraCommBackend(sources=[source])
    assert "u:p" not in str(caught.value)


async def test_the_configuration_says_which():
    backend = create_backend(Config.of({"protocol": "agora", "agora": {"sources": ["data:", "https://example.org/"]}}))
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())
    assert await status(int(handle.base_url.rpartition(":")[2]), data_uri(DOCUMENT)) == "success"
    await backend.close()
