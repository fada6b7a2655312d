from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop
from unit.comm.agents import soon, until
from unit.comm.raw import Connection, ask, connection, get, post

from streaming_queue.comm.base import HostLimits, HostOptions
from streaming_queue.comm.host.asgi import AsgiServer, cancelled_on_disconnect, serve
from streaming_queue.errors import ConfigError, ConnectError

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

LIMITS = HostLimits(body_bytes=1000, body_deadline_s=0.3, stop_s=0.5)


class App:
    """Reads the body and answers with it; other paths do what their name says."""

    def __init__(self) -> None:
        self.served = 0
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.scope: Any = {}
        self.disconnects = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        self.scope = scope
        self.started.set()
        await getattr(self, scope["path"].strip("/") or "echo")(scope, receive, send)
        self.served += 1

    async def lifespan(self, receive: Any, send: Any) -> None:
        for step in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{step}"
            self.scope = step
            await send({"type": f"lifespan.{step}.complete"})

    async def echo(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects += 1
                break
            body += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    health = echo

    async def hang(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            with cancelled_on_disconnect(scope):
                await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def stubborn(self, scope: Any, receive: Any, send: Any) -> None:
        end = asyncio.get_running_loop().time() + 1.2
        while (left := end - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue

    async def stream(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            with cancelled_on_disconnect(scope):
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                    await asyncio.sleep(0)
        finally:
            self.cancelled.set()

    async def crash(self, scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("key sk-123 is bad")


@pytest.fixture
async def app():
    return App()


@pytest.fixture
async def start(app: App):
    servers: list[AsgiServer] = []

    async def start(
        host: str = "127.0.0.1", port: int = 0, *, limits: HostLimits = LIMITS, lifespan: bool = False, **options: Any
    ) -> AsgiServer:
        options_ = HostOptions(limits=limits, **options)
        server = await serve(app, host=host, port=port, options=options_, name="agent 'w'", lifespan=lifespan)
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


# --- listening ---


async def test_it_is_ready_when_serve_returns(start: Any):
    server = await start()
    assert server.base_url == f"http://127.0.0.1:{server.port}"
    answer = await ask(server.port, post("/", b"hello"))
    assert (answer.status, answer.body) == (200, b"hello")
    assert "date" in answer.headers
    assert "server" not in answer.headers


async def test_a_port_in_use_is_named_with_the_remedy(start: Any):
    taken = (await start()).port
    with pytest.raises(ConnectError, match=rf"agent 'w': cannot listen on 127.0.0.1:{taken}: the port is in use: "):
        await start(port=taken)


@pytest.mark.parametrize(
    ("host", "port"),
    [("no.such.host.invalid", 0), ("192.0.2.1", 0), ("", 0), ("127.0.0.1", 70000), ("127.0.0.1", -1), ("\udcff", 0)],
)
async def test_an_address_that_is_not_ours_is_a_setting_to_correct(start: Any, host: str, port: int):
    with pytest.raises(ConfigError, match="agent 'w': cannot listen on"):
        await start(host, port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_a_public_address_without_authentication_is_refused(start: Any, host: str):
    with pytest.raises(ConfigError, match=r"refusing to listen on .*STQ_NETWORK__TOKEN.*network\.allow_public"):
        await start(host)


async def test_a_public_address_may_be_allowed_and_then_takes_any_ip(start: Any):
    server = await start("0.0.0.0", allow_public=True)
    assert server.base_url == f"http://127.0.0.1:{server.port}"
    assert (await ask(server.port, get("/", host="192.0.2.7:80"))).status == 200
    assert (await ask(server.port, get("/", host="evil.example"))).status == 421


async def test_a_public_address_with_an_authenticator_needs_no_permission(start: Any):
    server = await start("0.0.0.0", authenticator=nobody)
    assert (await ask(server.port, get("/"))).status == 401


@pytest.mark.parametrize(("host", "url"), [("localhost", "http://localhost:{}"), ("::1", "http://[::1]:{}")])
async def test_the_base_url_leads_there(start: Any, host: str, url: str):
    server = await start(host)
    assert server.base_url == url.format(server.port)
    address = "::1" if host == "::1" else "127.0.0.1"
    assert (await ask(server.port, get("/", host=server.base_url[7:]), address)).status == 200


# --- the guard ---


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:{}", "127.0.0.1", "localhost", "LocalHost:{}", "[::1]:{}", "[::1]", "my.example", "my.example:{}"],
)
async def test_our_hosts_are_served(start: Any, host: str):
    server = await start(allowed_hosts=("My.Example",))
    assert (await ask(server.port, get("/", host=host.format(server.port)))).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "192.0.2.1", "[::2]", "[", "@"]
)
async def test_other_hosts_are_misdirected(start: Any, app: App, host: str):
    server = await start()
    answer = await ask(server.port, get("/", host=host))
    assert (answer.status, answer.code, app.served) == (421, "config", 0)
    assert "allowed_hosts" in answer.json["error"]["message"]


async def test_any_host_may_be_allowed(start: Any):
    server = await start(allowed_hosts=("*",))
    assert (await ask(server.port, get("/", host="whoever.example"))).status == 200


@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\n\r\n", get("/", "Host: localhost"), get("/", "Host: evil")])
async def test_a_request_has_exactly_one_host(start: Any, request_: bytes):
    server = await start()
    answer = await ask(server.port, request_)
    assert (answer.status, answer.code) == (400, "protocol")


async def test_pages_of_other_origins_are_turned_away(start: Any, app: App):
    server = await start(allowed_hosts=("ui.example",))
    here = f"localhost:{server.port}"
    for origin in ("https://evil.example", "null", f"http://localhost:{server.port + 1}", "http://localhost"):
        answer = await ask(server.port, post("/", b"{}", f"Origin: {origin}", host=here))
        assert (answer.status, answer.code, app.served) == (403, "auth", 0)
    for origin in (f"http://{here}", "https://ui.example"):
        assert (await ask(server.port, post("/", b"{}", f"Origin: {origin}", host=here))).status == 200


async def test_a_body_over_the_limit_is_refused_by_its_length_at_once(start: Any, app: App):
    server = await start()
    assert (await ask(server.port, post("/", b"x" * 1000))).status == 200
    async with connection(server.port) as peer:
        await peer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n")
        answer = await peer.answer()
        assert (answer.status, answer.code, answer.json["error"]["retryable"]) == (413, "protocol", False)
        assert answer.headers["connection"] == "close"
    assert app.served == 1


async def test_the_refusal_of_a_large_body_reaches_a_sender_that_reads_late(start: Any):
    server = await start()
    async with connection(server.port) as peer:
        await peer.write(post("/", b"x" * 3_000_000))
        assert (await peer.answer()).status == 413
        assert await peer.closed()


@pytest.mark.parametrize("size", [10, 400, 3000])
async def test_a_body_over_the_limit_is_refused_while_it_streams_in(start: Any, app: App, size: int):
    server = await start()
    async with connection(server.port) as peer:
        await peer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n%s\r\n" % (size, b"x" * size)
        for _ in range(1000 // size):
            await peer.write(chunk)
            await asyncio.sleep(0)
        await peer.write(chunk)
        answer = await peer.answer()
        assert (answer.status, answer.code) == (413, "protocol")
    await soon(lambda: app.disconnects == 1)


async def test_a_streamed_body_within_the_limit_arrives(start: Any):
    server = await start()
    async with connection(server.port) as peer:
        await peer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"3\r\nabc\r\n", b"3\r\ndef\r\n", b"0\r\n\r\n"):
            await peer.write(piece)
            await asyncio.sleep(0.01)
        assert (await peer.answer()).body == b"abcdef"


async def test_a_slow_body_is_given_up(start: Any, app: App):
    server = await start()
    async with connection(server.port) as peer:
        await peer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
        started = time.monotonic()
        dripping = asyncio.create_task(_drip(peer, b"x"))
        answer = await peer.answer()
        assert (answer.status, answer.code) == (408, "timeout")
        assert 0.25 < time.monotonic() - started < 1
        await dripping
    assert app.disconnects == 1


@pytest.mark.parametrize("first", [b"", post("/", b"{}")])
async def test_slow_headers_are_given_up(start: Any, first: bytes):
    server = await start()
    async with connection(server.port) as peer:
        if first:
            await peer.write(first)
            assert (await peer.answer()).status == 200
        await peer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        dripping = asyncio.create_task(_drip(peer, b"x"))
        answer = await peer.answer()
        assert (answer.status, answer.code) == (408, "timeout")
        await dripping


async def test_a_connection_that_says_nothing_is_closed(start: Any):
    server = await start()
    async with connection(server.port) as peer:
        assert await peer.closed()


async def test_an_idle_connection_after_a_request_is_kept(start: Any):
    server = await start()
    async with connection(server.port) as peer:
        for _ in range(2):
            await peer.write(post("/", b"x"))
            assert (await peer.answer()).status == 200
            await asyncio.sleep(0.4)


async def _drip(peer: Connection, byte: bytes) -> None:
    for _ in range(30):
        try:
            await peer.write(byte)
        except ConnectionError:
            return
        await asyncio.sleep(0.02)


async def test_a_flood_of_headers_is_cut_off(start: Any):
    server = await start(limits=HostLimits(stop_s=0.5))
    async with connection(server.port) as peer:
        await peer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        for _ in range(66):
            await peer.write(b"X-Flood: %s\r\n" % (b"x" * 1000))
            await asyncio.sleep(0)
        answer = await peer.answer()
        assert (answer.status, answer.code) == (431, "protocol")
        assert await peer.closed()


async def test_too_many_connections_are_told_to_come_back(start: Any):
    server = await start(limits=HostLimits(connections=2, stop_s=0.5))
    async with connection(server.port) as first, connection(server.port) as second:
        for peer in (first, second):
            await peer.write(get("/"))
            assert (await peer.answer()).status == 200
        answer = await ask(server.port, get("/"))
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "rate_limited", "1")

    async def served() -> bool:
        return (await ask(server.port, get("/"))).status == 200

    await until(served)


async def test_a_peer_that_does_not_read_is_dropped(start: Any, app: App):
    server = await start()
    async with connection(server.port) as peer:
        peer.writer.transport.pause_reading()
        await peer.write(get("/stream"))
        async with asyncio.timeout(5):
            await app.cancelled.wait()


async def test_a_crash_is_answered_without_its_text(start: Any, caplog: pytest.LogCaptureFixture):
    server = await start()
    answer = await ask(server.port, get("/crash"))
    assert (answer.status, answer.code) == (500, "agent_failed")
    assert b"sk-123" not in answer.body
    assert "GET /crash failed" in caplog.text
    assert (await ask(server.port, get("/"))).status == 200


async def test_garbage_is_a_bad_request_and_the_next_caller_is_served(start: Any):
    server = await start()
    async with connection(server.port) as peer:
        await peer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert (await peer.answer()).status == 400
    assert (await ask(server.port, get("/"))).status == 200


# --- who asks ---


async def nobody(credential: str) -> str | None:
    return None


async def only_ada(credential: str) -> str | None:
    return "ada" if credential == "s3cret" else None


@pytest.mark.parametrize(
    "header", [(), ("Authorization: Basic s3cret",), ("Authorization: Bearer",), ("Authorization: s3cret",)]
)
async def test_without_a_credential_nobody_is_served(start: Any, app: App, header: tuple[str, ...]):
    server = await start(authenticator=only_ada)
    answer = await ask(server.port, post("/", b"{}", *header))
    assert (answer.status, answer.code, answer.headers["www-authenticate"]) == (401, "auth", "Bearer")
    assert app.served == 0


async def test_a_wrong_credential_is_refused_and_the_right_one_names_the_principal(start: Any, app: App):
    server = await start(authenticator=only_ada)
    answer = await ask(server.port, post("/", b"{}", "Authorization: Bearer wrong"))
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert app.served == 0
    assert (await ask(server.port, post("/", b"{}", "Authorization: bearer s3cret"))).status == 200
    assert app.scope["state"]["principal"] == "ada"


async def test_health_stays_open(start: Any):
    server = await start(authenticator=only_ada)
    assert (await ask(server.port, get("/health"))).status == 200


async def test_an_authenticator_that_fails_lets_nobody_in(start: Any, app: App):
    async def broken(credential: str) -> str | None:
        raise OSError("down")

    async def hung(credential: str) -> str | None:
        await asyncio.Event().wait()
        return "ada"

    for authenticator in (broken, hung):
        server = await start(authenticator=authenticator)
        assert (await ask(server.port, get("/", "Authorization: Bearer s3cret"))).status == 500
    assert app.served == 0


# --- leaving and stopping ---


async def test_a_leaving_peer_cancels_who_asked_for_it(start: Any, app: App, caplog: pytest.LogCaptureFixture):
    server = await start()
    async with connection(server.port) as peer:
        await peer.write(get("/hang"))
        await app.started.wait()
    async with asyncio.timeout(1):
        await app.cancelled.wait()
    assert caplog.text == ""


async def test_stop_lets_what_is_under_way_finish(start: Any, app: App):
    server = await start()
    async with connection(server.port) as peer:
        await peer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab")
        await app.started.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.05)
        await peer.write(b"cd")
        assert (await peer.answer()).body == b"abcd"
        await stopping


@pytest.mark.parametrize("path", ["/hang", "/stream"])
async def test_stop_is_bounded_and_leaves_no_trace_in_the_log(
    start: Any, app: App, path: str, caplog: pytest.LogCaptureFixture
):
    server = await start()
    async with connection(server.port) as peer, connection(server.port):
        await peer.write(get(path))
        await app.started.wait()
        started = time.monotonic()
        await asyncio.gather(server.stop(), server.stop())
        await server.stop()
        assert time.monotonic() - started < 0.7
        assert app.cancelled.is_set()
    assert caplog.text == ""
    with pytest.raises(ConnectionRefusedError):
        await ask(server.port, get("/"))


async def test_stop_is_bounded_even_if_a_handler_will_not_go(start: Any, app: App, caplog: pytest.LogCaptureFixture):
    server = await start()
    async with connection(server.port) as peer:
        await peer.write(get("/stubborn"))
        await app.started.wait()
        started = time.monotonic()
        with caplog.at_level(logging.WARNING):
            await server.stop()
        assert time.monotonic() - started < 0.8
        assert "agent 'w': 1 handlers do not end" in caplog.text
    await soon(lambda: app.served == 1)


async def test_the_same_port_can_be_served_again_at_once(start: Any):
    server = await start()
    async with connection(server.port) as peer:
        await peer.write(get("/"))
        assert (await peer.answer()).status == 200
        await server.stop()
        again = await start(port=server.port)
        assert (await ask(again.port, get("/"))).status == 200


async def test_lifespan_runs_only_if_asked(start: Any, app: App):
    await (await start()).stop()
    assert app.scope == {}
    server = await start(lifespan=True)
    assert app.scope == "startup"
    await server.stop()
    assert app.scope == "shutdown"


async def test_a_failing_start_up_is_a_typed_error(start: Any, app: App, caplog: pytest.LogCaptureFixture):
    async def failing(receive: Any, send: Any) -> None:
        raise OSError("no disk")

    app.lifespan = failing  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="agent 'w': the application failed to start"):
        await start(lifespan=True)
    assert "no disk" in caplog.text


# --- TLS, and the other loop ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run([*command.split(), *more], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


async def test_tls(start: Any, certificate: Path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    await asyncio.to_thread(context.load_cert_chain, certificate)
    trust = await asyncio.to_thread(ssl.create_default_context, cafile=certificate)
    server = await start("localhost", tls=context)
    assert server.base_url == f"https://localhost:{server.port}"
    async with connection(server.port, "localhost", ssl=trust) as peer:
        await peer.write(get("/"))
        assert (await peer.answer()).status == 200


def test_uvloop_stops_and_restarts_alike():
    async def scenario() -> None:
        app = App()
        options = HostOptions(limits=LIMITS)
        port = 0
        for _ in range(3):
            app.started.clear()
            server = await serve(app, host="127.0.0.1", port=port, options=options, name="w")
            port = server.port
            async with connection(port) as peer, connection(port) as idle:
                await idle.write(get("/"))
                assert (await idle.answer()).status == 200
                app.started.clear()
                await peer.write(get("/hang"))
                await app.started.wait()
                started = time.monotonic()
                await server.stop()
                assert time.monotonic() - started < 0.7
                assert app.cancelled.is_set()
        assert len(asyncio.all_tasks()) == 1

    uvloop.run(scenario())


async def test_listening_sockets_are_not_leaked_by_a_refusal(start: Any):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):
        with pytest.raises(ConfigError, match="refusing"):
            await start("0.0.0.0", port)
    assert json.loads((await ask((await start(port=port)).port, post("/", b"{}"))).body) == {}
