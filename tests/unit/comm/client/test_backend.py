"""What the conformance kit does not show of the frame that the backends over HTTP share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from aiohttp import ClientPayloadError
from yarl import URL

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.backend import HttpBackend, PeerBackend
from streaming_queue.comm.client.exchange import CANCEL_TIMEOUT_S, Cancels
from streaming_queue.comm.client.http import HttpSession, agent_url, read_body
from streaming_queue.errors import BackendClosedError, ConfigError, ConnectError, ProtocolError, UnknownAgentError

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine"


class Peer:
    def __init__(self, url: URL) -> None:
        self.url = url
        self.closed = 0


class PlainBackend(HttpBackend[Peer]):
    """GET is the protocol: `/ok` is healthy, and `/cancel` is the cancel."""

    name = "plain"
    probe_timeout_s = 0.2

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
        return Peer(agent_url(agent_id, address))

    @property
    def cancels(self) -> Cancels:
        return self._cancels

    @property
    def session(self) -> HttpSession:
        return self._session

    def peer(self, agent_id: str) -> Peer:
        return self._peer(agent_id)

    async def _get(self, peer: Peer, path: str) -> str:
        with self._session.translated(str(peer.url)):
            async with self._session.request("GET", peer.url / path, headers={}, tls=None) as response:
                return (await read_body(response, str(peer.url))).decode()

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        peer = self._peer(dst_id)
        try:
            return {"text": await self._get(peer, payload["text"])}
        except asyncio.CancelledError:
            await self._cancels.send(str(peer.url), partial(self._get, peer, "cancel"))
            raise

    async def _probe(self, peer: Peer) -> bool:
        return await self._get(peer, "ok") == "fine"

    async def _close_peer(self, peer: Peer) -> None:
        peer.closed += 1

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> Any:
        return await self._host(lambda: executor, agent_id, host, port, executor)


class Server:
    """Answers `/ok`, and leaves every other request without an answer; `paths` is what it was asked."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.asked = asyncio.Condition()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            while await reader.readline() not in (b"\r\n", b""):
                pass
            path = head.split()[1].decode()
            async with self.asked:
                self.paths.append(path)
                self.asked.notify_all()
            if path == "/ok":
                writer.write(ANSWER)
            elif path == "/broken":
                break
        writer.close()

    async def was_asked(self, path: str) -> None:
        async with asyncio.timeout(5), self.asked:
            await self.asked.wait_for(lambda: path in self.paths)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield made
    listening.close()


@pytest.fixture
async def backend(server: Server) -> AsyncIterator[PlainBackend]:
    made = PlainBackend()
    await made.register_endpoint("w", server.url)
    yield made
    await made.close()


class Hosted:
    """A handle that counts its stops."""

    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        self.stops = 0

    async def stop(self) -> None:
        self.stops += 1


async def test_an_agent_is_asked_and_probed(backend: PlainBackend):
    assert await backend.send("c", "w", {"text": "ok"}) == {"text": "fine"}
    assert await backend.health_check("w")
    assert not await backend.health_check("nobody")


async def test_a_probe_has_its_time_and_no_more(backend: PlainBackend, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backend, "_probe", lambda peer: backend._get(peer, "silent"))
    began = time.monotonic()
    assert not await backend.health_check("w")
    assert time.monotonic() - began < 5


async def test_the_same_address_again_keeps_what_is_known_and_another_does_not(backend: PlainBackend, server: Server):
    first = backend.peer("w")
    await backend.register_endpoint("w", server.url)
    assert backend.peer("w") is first
    await backend.register_endpoint("w", f"{server.url}/other")
    second = backend.peer("w")
    assert second is not first
    with pytest.raises(ConfigError, match="with at most a path"):
        await backend.register_endpoint("w", "ftp://somewhere")
    assert backend.peer("w") is second
    assert backend.endpoint("w") == f"{server.url}/other"
    await backend.close()
    assert (first.closed, second.closed) == (1, 1)


async def test_what_the_library_raises_is_ours(backend: PlainBackend):
    with pytest.raises(ConnectError, match="the connection broke before the answer"):
        await backend.send("c", "w", {"text": "broken"})
    with pytest.raises(UnknownAgentError):
        await backend.send("c", "nobody", {"text": "ok"})


async def test_an_error_of_ours_passes_as_it_is(backend: PlainBackend):
    error = ProtocolError("as it is")
    with pytest.raises(ProtocolError) as caught, backend.session.translated("w"):
        raise error
    assert caught.value is error
    with pytest.raises(ValueError, match="no concern"), backend.session.translated("w"):
        raise ValueError("no concern of HTTP")


async def test_closing_fails_whoever_asks(backend: PlainBackend, server: Server):
    asking = asyncio.create_task(backend.send("c", "w", {"text": "silent"}))
    await server.was_asked("/silent")
    await backend.close()
    with pytest.raises(BackendClosedError, match=f"^{server.url}: the plain backend was closed before the answer$"):
        await asyncio.wait_for(asking, 1)
    assert server.paths == ["/silent"]  # that is no cancel


async def test_a_closed_backend_asks_and_hosts_nobody_and_says_so(backend: PlainBackend, server: Server):
    await backend.close()
    with pytest.raises(BackendClosedError, match=r"^the plain backend is closed$"):
        await backend.send("c", "w", {"text": "ok"})
    with pytest.raises(BackendClosedError, match=r"^the plain backend is closed$"):
        backend.session.request("GET", URL(server.url), headers={}, tls=None)
    with pytest.raises(BackendClosedError, match=r"^the plain backend is closed$"):
        await backend.spawn_local_agent("a", "127.0.0.1", 0, None)
    assert not await backend.health_check("w")
    assert server.paths == []


async def test_closing_again_does_nothing(backend: PlainBackend):
    async def spawn(agent_id: str, *_: Any) -> Hosted:
        return Hosted(agent_id)

    agent = await backend.spawn_local_agent("a", "127.0.0.1", 0, spawn)
    peer = backend.peer("w")
    await backend.close()
    await backend.close()
    assert (agent.stops, peer.closed) == (1, 1)


async def test_a_host_gets_all_that_the_backend_was_given(backend: PlainBackend):
    async def spawn(*given: Any, **more: Any) -> Hosted:
        assert (given, more) == (("a", "127.0.0.1", 7, spawn, backend), {"grace_s": 3.0})
        return Hosted("a")

    assert await backend._host(lambda: spawn, "a", "127.0.0.1", 7, spawn, grace_s=3.0)


async def test_a_backend_without_http_probes_the_registered_agent():
    class Other(PeerBackend[Peer]):
        name = "other"

        def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
            return Peer(URL(address))

        async def _probe(self, peer: Peer) -> bool:
            return peer.url.host == "well"

        async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any: ...

    backend = Other()
    await backend.register_endpoint("w", "other://well")
    await backend.register_endpoint("x", "other://ill")
    assert await backend.health_check("w")
    assert not await backend.health_check("x")
    await backend.close()


async def test_a_failed_probe_names_the_address(backend: PlainBackend, server: Server, monkeypatch: pytest.MonkeyPatch):
    async def probe(peer: Peer) -> bool:
        raise ClientPayloadError

    monkeypatch.setattr(backend, "_probe", probe)
    reason = await backend.probe("w")
    assert isinstance(reason, ConnectError)
    assert str(reason).startswith(f"{server.url}: ")


async def test_a_failure_while_the_agents_stop_is_the_end_of_the_backend(backend: PlainBackend):
    failures: list[Exception] = []

    class Breaking(Hosted):
        async def stop(self) -> None:
            failures.append(backend.session.failure(ClientPayloadError(), "http://peer"))

    async def spawn(*_: Any) -> Hosted:
        return Breaking("a")

    await backend.spawn_local_agent("a", "127.0.0.1", 0, spawn)
    await backend.close()
    assert [type(failure) for failure in failures] == [BackendClosedError]


async def test_an_agent_that_is_ready_after_the_end_is_stopped(backend: PlainBackend):
    agent = Hosted("a")

    async def spawn(*_: Any) -> Hosted:
        await backend.close()
        return agent

    with pytest.raises(BackendClosedError):
        await backend.spawn_local_agent("a", "127.0.0.1", 0, spawn)
    assert agent.stops == 1


async def test_a_cancel_is_told_before_the_asker_leaves(backend: PlainBackend, server: Server):
    asking = asyncio.create_task(backend.send("c", "w", {"text": "silent"}))
    await server.was_asked("/silent")
    asking.cancel()
    await server.was_asked("/cancel")
    assert not asking.done()
    asking.cancel()  # whoever insists does not wait for it, but it goes on
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(backend.cancels) == 1


async def test_a_cancel_that_nobody_takes_has_a_second(
    backend: PlainBackend, server: Server, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, "streaming_queue.comm.client.exchange")
    asking = asyncio.create_task(backend.send("c", "w", {"text": "silent"}))
    await server.was_asked("/silent")
    asking.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert time.monotonic() - began < CANCEL_TIMEOUT_S + 4
    assert "the cancel failed" in caplog.text


async def test_closing_waits_for_a_cancel_and_not_for_ever(backend: PlainBackend, server: Server):
    asking = asyncio.create_task(backend.send("c", "w", {"text": "silent"}))
    await server.was_asked("/silent")
    asking.cancel()
    await server.was_asked("/cancel")
    began = time.monotonic()
    await backend.close()
    assert CANCEL_TIMEOUT_S / 2 < time.monotonic() - began < CANCEL_TIMEOUT_S + 4
    assert len(backend.cancels) == 0
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_nothing_is_told_after_the_end(backend: PlainBackend):
    await backend.close()
    told: list[str] = []

    async def cancel() -> None:
        told.append("cancel")

    await backend.cancels.send("w", cancel)
    assert told == []
