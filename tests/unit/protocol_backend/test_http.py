from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import LIMITS, Agent, Echo, Gate, message, soon
from unit.comm.raw import Answer, ask, connection, get, post

from streaming_queue.comm.base import EndpointOptions, HostLimits, HostOptions
from streaming_queue.comm.context import listening
from streaming_queue.comm.host import respond
from streaming_queue.errors import (
    ERRORS_BY_CODE,
    AgentFailedError,
    AuthError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RateLimitedError,
    StreamingQueueError,
)
from streaming_queue.messages import DELTA, MESSAGE
from streaming_queue.protocol_backend.http.answers import STATUS_BY_CODE
from streaming_queue.protocol_backend.http.comm import HttpCommBackend

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocols" / "http.md"


pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest.fixture
async def spawn():
    """Host an executor; returns the port and a backend that knows it as `w`."""
    backends: list[HttpCommBackend] = []

    async def spawn(
        executor: Any, options: EndpointOptions | None = None, host: str = "127.0.0.1", **host_options: Any
    ) -> tuple[int, HttpCommBackend]:
        backend = HttpCommBackend(
            options={"w": options} if options else {}, host_options=HostOptions(**{"limits": LIMITS, **host_options})
        )
        backends.append(backend)
        handle = await backend.spawn_local_agent("w", host, 0, executor)
        spawn.agents.append(handle)
        await backend.register_endpoint("w", handle.base_url)
        return int(handle.base_url.rpartition(":")[2]), backend

    spawn.agents = []
    yield spawn
    for backend in backends:
        await backend.close()


# --- the contract on the wire ---


async def test_health(spawn: Any):
    port, _ = await spawn(Echo())
    answer = await ask(port, get("/health"))
    assert (answer.status, answer.json) == (200, {"status": "ok", "agent_id": "w"})


async def test_an_agent_that_drains_is_not_healthy_and_takes_no_question(spawn: Any):
    gate = Gate()
    port, backend = await spawn(gate)
    (agent,) = spawn.agents
    asked = asyncio.create_task(backend.send("c", "w", {"text": "q"}))
    await gate.started.wait()
    draining = asyncio.create_task(agent.drain(5))
    await asyncio.sleep(0)
    answer = await ask(port, get("/health"))
    assert (answer.status, answer.json["status"]) == (503, "draining")
    assert not await backend.health_check("w")
    with pytest.raises(ConnectError, match="drains"):
        await backend.send("c", "w", {"text": "another"})
    gate.open.set()
    await draining
    assert (await asked)["text"] == "answer 1"


async def test_an_answer_that_is_long_in_coming_shows_signs_of_life(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(respond, "HEARTBEAT_S", 0.05)
    gate, signs = Gate(), 0

    def count() -> None:
        nonlocal signs
        signs += 1
        if signs == 4:
            gate.open.set()

    port, backend = await spawn(gate)
    with listening(count):
        assert (await backend.send("c", "w", {"text": "q"}))["text"] == "answer 1"
    answer = await ask(port, keyed())
    assert answer.json == {"text": "answer 2"}


async def test_a_late_failure_comes_back_as_itself(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(respond, "HEARTBEAT_S", 0.02)

    async def behave(context: Any, queue: Any) -> None:
        await asyncio.sleep(0.1)
        raise RateLimitedError("slow down", retry_after_s=2.5)

    port, backend = await spawn(Agent(behave))
    with pytest.raises(RateLimitedError) as caught:
        await backend.send("c", "w", {"text": "q"})
    assert caught.value.retry_after_s == 2.5
    answer = await ask(port, post("/message", b'{"text": "q"}'))
    assert (answer.status, answer.code) == (200, "rate_limited")
    assert answer.body.startswith(b"\n")


async def test_the_kernel_probes_idle_connections(spawn: Any):
    _, backend = await spawn(Echo())
    await backend.send("c", "w", {"text": "q"})
    ((transport, _),) = [
        (protocol.transport, at) for pool in backend._session._opened.connector._conns.values() for protocol, at in pool
    ]
    peer = transport.get_extra_info("socket")
    assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15


async def test_a_message_and_its_answer(spawn: Any):
    port, _ = await spawn(Echo())
    answer = await ask(port, post("/message", b'{"text": "hello"}'))
    assert (answer.status, answer.json) == (200, {"text": "hello"})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "body",
    [
        b'{\n  "text" : "\\u0068i"\n}\n',
        b'{"text":"hi","later":{"version":2}}',
        b'{"text":"hi","metadata":null}',
        b'{"parts":[{"kind":"text","text":"hi"},{"kind":"file","uri":"x"}]}',
        b'{"metadata":{"x":1.50},"text":"hi"}',
    ],
)
async def test_every_spelling_of_a_message_is_taken(spawn: Any, body: bytes):
    port, _ = await spawn(Echo())
    assert (await ask(port, post("/message", body))).json == {"text": "hi"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"hello",
        b"[]",
        b'"text"',
        b"null",
        b"{}",
        b'{"text": NaN}',
        b'{"text": "x", "metadata": {"x": NaN}}',
        b'{"text": "x", "metadata": {"x": Infinity}}',
        b'{"text": "x", "text": "y"}',
        b'{"text": "x", "metadata": {"a": 1, "a": 2}}',
        b'{"text": "x", "te\\u0078t": "y"}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"text": 5}',
        b'{"text": null, "parts": []}',
        b'{"parts": "x"}',
        b'{"parts": ["x"]}',
        b'{"parts": [{"text": 5}]}',
        b'{"text": "x", "metadata": []}',
        b"[" * 100_000,
        b'{"text": "x", "metadata": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
        b'{"text": "x", "n": ' + b"1" * 5000 + b" }",
        b"\x1f\x8b\x08\x00",
    ],
    ids=range(25),
)
async def test_what_is_no_message_is_a_bad_request(spawn: Any, body: bytes):
    port, backend = await spawn(Echo())
    answer = await ask(port, post("/message", body))
    assert (answer.status, answer.code, answer.json["error"]["retryable"]) == (400, "protocol", False)
    assert await backend.health_check("w")


@pytest.mark.parametrize(
    ("request_", "status", "allow"),
    [
        (get("/"), 404, None),
        (post("/message/", b"{}"), 404, None),
        (get("/message"), 405, "POST"),
        (get("/cancel"), 405, "POST"),
        (post("/health", b"{}"), 405, "GET, HEAD"),
    ],
)
async def test_other_paths_and_methods(spawn: Any, request_: bytes, status: int, allow: str | None):
    port, _ = await spawn(Echo())
    answer = await ask(port, request_)
    assert (answer.status, answer.headers.get("allow"), answer.code) == (status, allow, "config")


def test_every_code_has_a_status():
    assert set(STATUS_BY_CODE) == set(ERRORS_BY_CODE)


@pytest.mark.parametrize("cls", ERRORS_BY_CODE.values(), ids=ERRORS_BY_CODE)
async def test_the_status_tells_a_proxy_what_the_body_tells_us(spawn: Any, cls: type[StreamingQueueError]):
    async def behave(context: Any, queue: Any) -> None:
        raise cls("x", retry_after_s=1.25)

    port, _ = await spawn(Agent(behave))
    answer = await ask(port, post("/message", b'{"text": ""}'))
    assert (answer.status, answer.code) == (STATUS_BY_CODE[cls.code], cls.code)
    assert answer.headers["retry-after"] == "2"
    assert answer.headers.get("www-authenticate") == ("Bearer" if answer.status == 401 else None)


@pytest.mark.parametrize("wish", [float("nan"), float("inf"), -3.0])
async def test_a_senseless_wish_is_no_reason_to_crash(spawn: Any, wish: float):
    async def behave(context: Any, queue: Any) -> None:
        raise AgentFailedError("x", retry_after_s=wish)

    port, _ = await spawn(Agent(behave))
    answer = await ask(port, post("/message", b'{"text": ""}'))
    assert (answer.status, answer.headers.get("retry-after")) == (500, None)


@pytest.mark.parametrize("event", [message("x", metadata={"x": object()}), message("\ud800")], ids=["metadata", "text"])
async def test_an_answer_that_json_cannot_hold_is_the_agents_failure(spawn: Any, event: Any):
    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event(event)

    _, backend = await spawn(Agent(behave))
    with pytest.raises(AgentFailedError, match="cannot be sent as JSON"):
        await backend.send("c", "w", {"text": "q"})
    with pytest.raises(AgentFailedError, match="cannot be sent as JSON"):
        [event async for event in backend.stream("c", "w", {"text": "q"})]


@pytest.mark.parametrize(
    "payload", [{"text": "\ud800"}, {"text": "x", "metadata": {"x": object()}}], ids=["text", "metadata"]
)
async def test_a_payload_that_json_cannot_hold_is_not_sent(spawn: Any, payload: Any):
    _, backend = await spawn(Echo())
    with pytest.raises(ProtocolError, match="cannot be sent as JSON") as caught:
        await backend.send("c", "w", payload)
    assert caught.value.retryable is False


async def test_a_payload_without_text_is_the_callers_mistake(spawn: Any):
    _, backend = await spawn(Echo())
    with pytest.raises(ConfigError, match='"text" or "parts"'):
        await backend.send("c", "w", {"metadata": {}})


async def test_the_context_travels_in_headers_and_the_rest_in_the_body(spawn: Any):
    seen: list[Any] = []

    async def behave(context: Any, queue: Any) -> None:
        seen.append(dict(context.metadata))
        await queue.enqueue_event(message("x"))

    port, _ = await spawn(Agent(behave))
    fields = (
        "Idempotency-Key: a%2Fb",
        "STQ-Attempt: 3",
        "stq-hops: many",
        "stq-question-id: %E9%97%AE",
        "stq-kind: question",
    )
    await ask(port, post("/message", b'{"text": "", "metadata": {"mine": 1, "attempt": 9}}', *fields))
    assert seen == [
        {"mine": 1, "attempt": 3, "idempotency_key": "a/b", "hops": "many", "question_id": "问", "kind": "question"}
    ]


async def test_a_stream_is_lines_and_a_blank_one_breaks_the_silence(spawn: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(respond, "HEARTBEAT_S", 0.03)

    async def behave(context: Any, queue: Any) -> None:
        await queue.enqueue_event({"type": DELTA, "data": "a"})
        await asyncio.sleep(0.1)
        await queue.enqueue_event(message("a b"))

    port, backend = await spawn(Agent(behave))
    answer = await ask(port, post("/message", b'{"text": ""}', "Accept: application/json, application/x-ndjson"))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    first, *silence, last = answer.body.splitlines()
    assert [json.loads(first), json.loads(last)] == [{"type": DELTA, "data": "a"}, message("a b")]
    assert silence[:2] == [b"", b""]
    assert not any(silence)
    assert [event["type"] async for event in backend.stream("c", "w", {"text": "q"})] == [DELTA, MESSAGE]


async def test_cancel_by_key(spawn: Any):
    gate = Gate()
    port, backend = await spawn(gate)
    sending = asyncio.create_task(backend.send("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}}))
    await gate.started.wait()
    assert (await ask(port, post("/cancel", b'{"idempotency_key": "other"}'))).json == {"cancelled": False}
    assert (await ask(port, post("/cancel", b'{"idempotency_key": "k"}'))).json == {"cancelled": True}
    assert (await ask(port, post("/cancel", b'{"idempotency_key": "k"}'))).json == {"cancelled": False}
    with pytest.raises(AgentFailedError, match="cancelled"):
        await sending
    for body in (b"{}", b'{"idempotency_key": 5}', b'{"idempotency_key": ""}', b"nonsense"):
        assert (await ask(port, post("/cancel", body))).status == 400


# --- leaving and coming back, over real sockets ---


def keyed(text: bytes = b"q", *headers: str) -> bytes:
    return post("/message", b'{"text": "%s"}' % text, "Idempotency-Key: k", *headers)


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_a_broken_connection_may_come_back_within_the_grace(spawn: Any, accept: str):
    gate = Gate()
    port, _ = await spawn(gate)
    async with connection(port) as peer:
        await peer.write(keyed(b"q", f"Accept: {accept}"))
        await gate.started.wait()
        peer.reset()
    await asyncio.sleep(0.1)
    async with connection(port) as peer:
        await peer.write(keyed())
        await asyncio.sleep(0.4)
        gate.open.set()
        assert (await peer.answer()).json == {"text": "answer 1"}
    assert (gate.runs, gate.cancelled) == (1, 0)


async def test_our_client_comes_back_by_itself(spawn: Any):
    gate = Gate()
    port, backend = await spawn(gate)
    broken: list[asyncio.StreamWriter] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", port)
        broken.append(writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, upstream))
                group.create_task(_pump(upstream_reader, writer))
        finally:
            upstream.close()
            writer.close()

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as proxy:
        await backend.register_endpoint("w", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        sending = asyncio.create_task(backend.send("c", "w", {"text": "q", "metadata": {"idempotency_key": "k"}}))
        await gate.started.wait()
        broken[0].transport.abort()
        await soon(lambda: len(broken) == 2)
        await asyncio.sleep(LIMITS.disconnect_grace_s + 0.1)
        gate.open.set()
        assert (await sending)["text"] == "answer 1"
        assert (gate.runs, gate.cancelled) == (1, 0)
        await backend.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def test_the_answer_of_a_broken_connection_is_kept(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with connection(port) as peer:
        await peer.write(keyed())
        await gate.started.wait()
        peer.reset()
    await asyncio.sleep(0.05)
    gate.open.set()
    await gate.ended.wait()
    for _ in range(2):
        assert (await ask(port, keyed())).json == {"text": "answer 1"}
    assert gate.runs == 1


async def test_after_the_grace_the_question_is_cancelled(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with connection(port) as peer:
        await peer.write(keyed())
        await gate.started.wait()
    left = time.monotonic()
    await soon(lambda: gate.cancelled == 1)
    assert time.monotonic() - left >= LIMITS.disconnect_grace_s - 0.05
    gate.open.set()
    assert (await ask(port, keyed())).json == {"text": "answer 2"}


async def test_without_a_key_nobody_can_come_back(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with connection(port) as peer:
        await peer.write(post("/message", b'{"text": "q"}'))
        await gate.started.wait()
    left = time.monotonic()
    await soon(lambda: gate.cancelled == 1)
    assert time.monotonic() - left < LIMITS.disconnect_grace_s / 2


async def test_the_key_of_another_text_is_refused(spawn: Any):
    gate = Gate()
    port, _ = await spawn(gate)
    async with connection(port) as peer:
        await peer.write(keyed(b"one"))
        await gate.started.wait()
        answer = await ask(port, keyed(b"two"))
        assert (answer.status, answer.code) == (400, "protocol")
        gate.open.set()
        assert (await peer.answer()).json == {"text": "answer 1"}


# --- limits, identity, options ---


async def test_a_question_over_the_limit_is_refused_for_good(spawn: Any):
    _, backend = await spawn(Echo(), limits=HostLimits(body_bytes=100_000, stop_s=1))
    for size in (200_000, 3_000_000):
        with pytest.raises(ProtocolError, match="over the limit of 100000 bytes") as caught:
            await backend.send("c", "w", {"text": "x" * size})
        assert caught.value.retryable is False
    assert (await backend.send("c", "w", {"text": "x" * 99_000}))["text"]


class Who:
    async def execute(self, context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event(message(str(context.principal)))


async def only_ada(credential: str) -> str | None:
    return "ada" if credential == "s3cret" else None


async def test_a_credential_makes_a_principal(spawn: Any):
    _, backend = await spawn(Who(), EndpointOptions(credential="s3cret"), authenticator=only_ada)
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "ada"
    assert await backend.health_check("w")


@pytest.mark.parametrize("options", [None, EndpointOptions(credential="wrong")])
async def test_a_wrong_credential_is_an_auth_error(spawn: Any, options: EndpointOptions | None):
    _, backend = await spawn(Who(), options, authenticator=only_ada)
    with pytest.raises(AuthError, match="credential"):
        await backend.send("c", "w", {"text": "q"})
    assert await backend.health_check("w")


async def test_nobody_in_particular_has_no_name(spawn: Any):
    _, backend = await spawn(Who())
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "None"


@pytest.mark.parametrize(
    "address",
    [
        "w:8000",
        "ftp://w:1",
        "http://",
        "http://ada:s3cret@w:1",
        "http://w:99999",
        "http://w:1/?a=b",
        "http://w:1/#x",
        "",
    ],
)
async def test_an_address_that_cannot_be_used_is_refused_without_its_secret(address: str):
    backend = HttpCommBackend()
    with pytest.raises(ConfigError, match=r"agent 'w': address .* must be http://host:port") as caught:
        await backend.register_endpoint("w", address)
    assert "s3cret" not in str(caught.value)
    assert backend.endpoints == {}


@pytest.mark.parametrize("options", [EndpointOptions(headers={"X": "a\r\nY: b"}), EndpointOptions(credential="a\nb")])
async def test_a_header_that_cannot_be_sent_is_refused_without_its_value(options: EndpointOptions):
    backend = HttpCommBackend(options={"w": options})
    with pytest.raises(ConfigError, match=r"the value of header '(X|Authorization)' cannot be sent"):
        await backend.register_endpoint("w", "http://w:1")


async def test_a_port_in_use_and_a_public_address(spawn: Any):
    port, backend = await spawn(Echo())
    with pytest.raises(ConnectError, match=f"agent 'v': cannot listen on 127.0.0.1:{port}: the port is in use"):
        await backend.spawn_local_agent("v", "127.0.0.1", port, Echo())
    with pytest.raises(ConfigError, match=r"refusing to listen on 0\.0\.0\.0"):
        await backend.spawn_local_agent("v", "0.0.0.0", 0, Echo())


async def test_a_hosted_agent_reaches_its_neighbours(spawn: Any):
    class Relay:
        async def execute(self, context: Any, event_queue: Any) -> None:
            reply = await context.call("n", {"text": context.get_user_input()})
            await event_queue.enqueue_event(message(reply["text"]))

    async def route(src_id: str, dst_id: str, payload: Any) -> Any:
        return {"raw": None, "text": f"{src_id}>{dst_id} {payload['text']}"}

    _, backend = await spawn(Relay())
    backend.route = route
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "w>n q"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run([*command.split(), *more], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


async def test_tls_and_a_stranger_certificate(spawn: Any, certificate: Path):
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    await asyncio.to_thread(server_side.load_cert_chain, certificate)
    trust = await asyncio.to_thread(ssl.create_default_context, cafile=certificate)
    _, backend = await spawn(Echo(), EndpointOptions(tls=trust), "localhost", tls=server_side)
    address = backend.endpoints["w"]
    assert address.startswith("https://localhost:")
    assert (await backend.send("c", "w", {"text": "q"}))["text"] == "q"
    await backend.register_endpoint("stranger", address)
    with pytest.raises(ConnectError, match=f"{address}: the TLS certificate is not trusted.*tls option") as caught:
        await backend.send("c", "stranger", {"text": "q"})
    assert caught.value.retryable is False


# --- the document ---


async def test_the_documents_worker_works(tmp_path: Path):
    text = await asyncio.to_thread(DOCUMENT.read_text)
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    script = tmp_path / "worker.py"
    script.write_text(code[1])
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), "0", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    backend = HttpCommBackend()
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        await backend.register_endpoint("w", f"http://127.0.0.1:{port}")
        assert await backend.health_check("w")
        assert (await backend.send("c", "w", {"text": "hello"}))["text"] == "HELLO"
        events = [event async for event in backend.stream("c", "w", {"text": "hello"})]
        assert events == [{"type": MESSAGE, "data": "HELLO"}]
        with pytest.raises(ConfigError, match="text only"):
            await backend.send("c", "w", {"parts": [{"kind": "text", "text": "x"}]})
    finally:
        await backend.close()
        process.kill()
        await process.wait()


def test_the_document_lists_every_status_and_header():
    text = DOCUMENT.read_text()
    for code, status in STATUS_BY_CODE.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {status} | "))
        assert f"`{code}`" in row, code


async def test_the_documents_requests_work(spawn: Any):
    """Each curl line of the document, sent to a hosted agent."""
    port, _ = await spawn(Echo())
    text = await asyncio.to_thread(DOCUMENT.read_text)
    commands = re.findall(r"```sh\n(curl .*?)```", text, re.DOTALL)
    assert len(commands) == 3
    for command in commands:
        path = re.search(r"http://127.0.0.1:10001(/\w+)", command)
        body = re.search(r"-d '(.*?)'", command)
        assert path is not None
        assert body is not None
        fields = re.findall(r"-H '(.*?)'", command)
        answer: Answer = await ask(port, post(path[1], body[1].encode(), *fields))
        assert answer.status == 200
        streams = any("x-ndjson" in field for field in fields)
        assert answer.headers["content-type"] == ("application/x-ndjson" if streams else "application/json")
