"""Servers that are not ours, and those that do not keep to ACP, by malice or by accident."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Self

import pytest
from unit.comm.agents import LIMITS, Gate, soon

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES
from streaming_queue.comm.base import EndpointOptions, HostOptions
from streaming_queue.comm.context import listening
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
    BackendClosedError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RateLimitedError,
    RemoteError,
    StreamingQueueError,
)
from streaming_queue.messages import DELTA, MESSAGE, STATUS
from streaming_queue.protocol_backend.acp import exchange
from streaming_queue.protocol_backend.acp.codec import agent_name
from streaming_queue.protocol_backend.acp.comm import AcpCommBackend
from streaming_queue.testing.relay import Relay

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

RUN_ID = "6da0fdce-fb9a-47a2-b2a3-2795f482af87"
OK = "200 OK"


def answer(body: Any, status: str = OK, *headers: str) -> bytes:
    encoded = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(encoded)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + encoded


def stream(*events: Any, end: bool = True, run_id: str | None = RUN_ID) -> bytes:
    named = f"run-id: {run_id}\r\n" if run_id else ""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n{named}transfer-encoding: chunked\r\n\r\n"
    chunks = [event if isinstance(event, bytes) else b"data: %s\n\n" % json.dumps(event).encode() for event in events]
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head.encode() + body + (b"0\r\n\r\n" if end else b"")


def part(text: str) -> dict[str, Any]:
    return {
        "type": "message.part",
        "part": {"content_type": "text/plain", "content": text, "content_encoding": "plain"},
    }


def state(status: str, *texts: str, **more: Any) -> dict[str, Any]:
    output = [{"role": "agent/echo", "parts": [{"content_type": "text/plain", "content": text} for text in texts]}]
    return {"run_id": RUN_ID, "agent_name": "echo", "status": status, "output": output if texts else [], **more}


def told(status: str, *texts: str, **more: Any) -> dict[str, Any]:
    return {"type": f"run.{status}", "run": state(status, *texts, **more)}


CREATED = told("created")
OPENED = {"type": "message.created", "message": {"role": "agent/echo", "parts": []}}
GOOD = stream(CREATED, OPENED, part("fi"), part("ne"), told("completed", "fi", "ne"))
NOT_FOUND = answer({"code": "not_found", "message": "nothing here", "data": None}, "404 Not Found")

Route = bytes | Callable[[], bytes]


class Server:
    """A TCP server of these routes; a response that is not whole is followed by `end`: nothing, or a reset."""

    def __init__(self, end: str = "keep", **routes: Route) -> None:
        self.end = end
        self.routes: dict[str, Route] = {
            "GET /ping": answer({}),
            "GET /agents": answer({"agents": [{"name": "echo"}]}),
            **{name.replace("_", " /", 1).replace("__", "/"): route for name, route in routes.items()},
        }
        self.requests: list[bytes] = []
        self.sent = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lines(self) -> list[str]:
        """Method and path of each request."""
        return [" ".join(request.decode().split(" ", 2)[:2]).partition("?")[0] for request in self.requests]

    def asked(self, line: str) -> list[bytes]:
        return [request for request, seen in zip(self.requests, self.lines(), strict=True) if seen == line]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                self.requests.append(head + await reader.readexactly(int(length[0].split(b":")[1]) if length else 0))
                route = self.routes.get(self.lines()[-1].replace(RUN_ID, "ID"), NOT_FOUND)
                response = route() if callable(route) else route
                writer.write(response)
                await writer.drain()
                while response.endswith(b"endless"):
                    writer.write(b" " * 65_536)
                    await writer.drain()
                    self.sent += 65_536
                if self.end == "reset" and b"POST /runs HTTP" in self.requests[-1]:
                    await asyncio.sleep(0.02)
                    writer.transport.abort()
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@pytest.fixture
async def backend():
    backend = AcpCommBackend(options={"w": EndpointOptions(credential="s3cret", headers={"X-Team": "blue"})})
    yield backend
    await backend.close()


async def send(backend: AcpCommBackend, server: Server, **metadata: Any) -> Any:
    await backend.register_endpoint("w", server.address)
    async with asyncio.timeout(5):
        return await backend.send("c", "w", {"text": "q", "metadata": metadata})


async def read(backend: AcpCommBackend, server: Server, **metadata: Any) -> list[Any]:
    await backend.register_endpoint("w", server.address)
    async with asyncio.timeout(5):
        return [event async for event in backend.stream("c", "w", {"text": "q", "metadata": metadata})]


WAYS = pytest.mark.parametrize("way", [send, read])


# --- a stranger that keeps to ACP ---


async def test_a_stranger_is_asked_by_a_stream_whichever_way(backend: AcpCommBackend):
    async with Server(POST_runs=GOOD) as server:
        for _ in range(3):
            assert (await send(backend, server, mine=1, attempt=2))["text"] == "fine"
        assert await read(backend, server) == [
            {"type": DELTA, "data": "fi"},
            {"type": DELTA, "data": "ne"},
            {"type": MESSAGE, "data": "fine"},
        ]
        assert server.lines() == ["GET /ping", "GET /agents", *["POST /runs"] * 4]
        head, _, body = server.requests[2].partition(b"\r\n\r\n")
    fields = {*head.decode().lower().split("\r\n")[1:]}
    assert {"authorization: bearer s3cret", "x-team: blue", "stq-attempt: 2", "accept-encoding: identity"} <= fields
    assert not any(field.startswith("run-id") for field in fields)
    assert json.loads(body) == {
        "agent_name": "echo",
        "input": [
            {"role": "user", "parts": [{"content_type": "text/plain", "content": "q", "content_encoding": "plain"}]}
        ],
        "mode": "stream",
        "metadata": {"mine": 1},
    }


async def test_what_a_stranger_says_meanwhile_is_a_status_and_a_whole_message_no_piece(backend: AcpCommBackend):
    whole = {"type": "message.created", "message": {"role": "agent/echo", "parts": [part("fine")["part"]]}}
    events = (CREATED, {"type": "generic", "generic": {"thinking": "hm"}}, {"type": "later"}, whole, part("fine"))
    async with Server(POST_runs=stream(*events, told("completed", "fine"))) as server:
        assert await read(backend, server) == [
            {"type": STATUS, "data": '{"thinking":"hm"}', "metadata": {"thinking": "hm"}},
            {"type": MESSAGE, "data": "fine"},
        ]


async def test_an_output_of_several_messages_and_kinds_of_parts(backend: AcpCommBackend):
    picture = {"content_type": "image/png", "content": "AAAA", "content_encoding": "base64"}
    output = [
        {"role": "agent/echo", "parts": [{"content": "a"}, picture, {"content": "b"}]},
        {"parts": [{"content": "c"}]},
    ]
    run = {**state("completed"), "output": output}
    async with Server(POST_runs=stream({"type": "run.completed", "run": run})) as server:
        reply = await send(backend, server)
    assert (reply["text"], reply["raw"]) == ("ab\nc", run)


async def test_a_server_that_does_not_stream(backend: AcpCommBackend):
    async with Server(POST_runs=answer(state("completed", "fine"))) as server:
        assert (await send(backend, server))["text"] == "fine"
        assert await read(backend, server) == [{"type": MESSAGE, "data": "fine"}]


async def test_a_server_that_answers_before_the_run_has_ended_is_asked_until_it_has(backend: AcpCommBackend):
    states = iter([state("created"), state("in-progress"), state("completed", "fine")])
    accepted = answer(state("created"), "202 Accepted")
    async with Server(POST_runs=accepted, GET_runs__ID=lambda: answer(next(states))) as server:
        assert (await send(backend, server))["text"] == "fine"
        assert server.lines()[2:] == ["POST /runs", *["GET /runs/" + RUN_ID] * 3]


async def test_a_path_before_the_endpoints_is_kept(backend: AcpCommBackend):
    async with Server() as server:
        server.routes = {line.replace("/", "/team/acp/", 1): route for line, route in server.routes.items()}
        server.routes["POST /team/acp/runs"] = GOOD
        await backend.register_endpoint("w", f"{server.address}/team/acp/")
        assert (await backend.send("c", "w", {"text": "q"}))["text"] == "fine"


# --- which agent ---


@pytest.mark.parametrize(
    ("agent_id", "path", "names", "chosen"),
    [
        ("w", "", ["echo"], "echo"),
        ("w", "", ["echo", "w"], "w"),
        ("W 1", "", ["echo", "w-1"], "w-1"),
        ("w", "/agents/b", ["a", "b"], "b"),
        ("w", "/agents/w%20x", ["a", "w x"], "w x"),
    ],
)
async def test_which_of_the_agents_is_meant(
    backend: AcpCommBackend, agent_id: str, path: str, names: list[str], chosen: str
):
    async with Server(GET_agents=answer({"agents": [{"name": name} for name in names]}), POST_runs=GOOD) as server:
        await backend.register_endpoint(agent_id, server.address + path)
        assert await backend.health_check(agent_id)
        await backend.send("c", agent_id, {"text": "q"})
        [request] = server.asked("POST /runs")
    assert json.loads(request.partition(b"\r\n\r\n")[2])["agent_name"] == chosen


@pytest.mark.parametrize(
    ("path", "names", "words"),
    [
        ("/agents/nobody", ["a"], "it has no agent 'nobody'; there are 'a'"),
        ("", [], "which of its agents is 'w'.; there are none"),
        (
            "",
            ["a", "b\x1b"],
            r"which of its agents is 'w'.; there are 'a', 'b\\x1b'; name one in the address: .*/agents/NAME",
        ),
    ],
)
async def test_no_such_agent_is_out_of_reach(backend: AcpCommBackend, path: str, names: list[str], words: str):
    async with Server(GET_agents=answer({"agents": [{"name": name} for name in names]})) as server:
        await backend.register_endpoint("w", server.address + path)
        with pytest.raises(ConnectError, match=words) as caught:
            await backend.send("c", "w", {"text": "q"})
        assert str(caught.value).startswith(server.address)
        assert not await backend.health_check("w")


async def test_an_agent_that_is_gone_is_looked_for_again(backend: AcpCommBackend):
    async with Server(POST_runs=NOT_FOUND) as server:
        for count in (1, 2):
            with pytest.raises(ConnectError, match="answered 404: 'nothing here'") as caught:
                await send(backend, server)
            assert caught.value.retryable
            assert len(server.asked("GET /agents")) == count
        server.routes["POST /runs"] = GOOD
        assert (await send(backend, server))["text"] == "fine"


@pytest.mark.parametrize("ours", ["W 1", "worker_7", "--", "", "问", "x" * 100])
def test_our_agents_names_are_dns_labels(ours: str):
    name = agent_name(ours)
    assert 0 < len(name) <= 63
    assert name.strip("-") == name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize(
    "address", ["w:8000", "ftp://w:1", "http://", "http://ada:s3cret@w:1", "http://w:99999", "http://w:1/?a=b"]
)
async def test_an_address_that_cannot_be_used(backend: AcpCommBackend, address: str):
    with pytest.raises(ConfigError, match="agent 'w': address"):
        await backend.register_endpoint("w", address)
    assert "w" not in backend.endpoints


# --- failures ---


@pytest.mark.parametrize(
    ("code", "retryable"), [("server_error", True), ("invalid_input", False), ("not_found", False), ("own", True)]
)
@WAYS
async def test_a_strangers_failure(backend: AcpCommBackend, way: Any, code: str, retryable: bool):
    failed = told("failed", error={"code": code, "message": "bo\x1bom", "data": {"hint": 1}})
    for response in (
        stream(CREATED, failed),
        answer(failed["run"]),
        stream({"type": "error", "error": failed["run"]["error"]}),
    ):
        async with Server(POST_runs=response) as server:
            with pytest.raises(AgentFailedError, match=rf"^{server.address}: the agent failed with '{code}'") as caught:
                await way(backend, server)
        assert (type(caught.value), caught.value.retryable) == (AgentFailedError, retryable)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("error", [None, "boom", {}])
@WAYS
async def test_a_failure_that_says_nothing(backend: AcpCommBackend, way: Any, error: Any):
    async with Server(POST_runs=stream(told("failed", error=error))) as server:
        with pytest.raises(AgentFailedError, match=f"^{server.address}: the agent failed"):
            await way(backend, server)


@WAYS
async def test_a_run_that_somebody_cancelled(backend: AcpCommBackend, way: Any):
    async with Server(POST_runs=stream(CREATED, told("cancelled"))) as server:
        with pytest.raises(AgentFailedError, match="the run was cancelled"):
            await way(backend, server)


@pytest.mark.parametrize("streams", [True, False])
@WAYS
async def test_an_agent_that_awaits_input_gets_none_and_is_cancelled(backend: AcpCommBackend, way: Any, streams: bool):
    awaiting = told("awaiting", await_request={"type": "message", "message": {"role": "agent", "parts": []}})
    response = stream(CREATED, awaiting) if streams else answer(awaiting["run"])
    async with Server(POST_runs=response, POST_runs__ID__cancel=answer(state("cancelling"), "202 Accepted")) as server:
        with pytest.raises(AgentFailedError, match=f"^{server.address}: the agent awaits further input") as caught:
            await way(backend, server)
        assert caught.value.retryable is False
        assert server.lines()[-1] == f"POST /runs/{RUN_ID}/cancel"


HTML = "<html>\x1b[31mIt works!</html>"
NO_RUNS = [
    answer(HTML, OK, "content-type: text/html"),
    answer(b""),
    answer(b"\x00\xff\xfe"),
    answer("[]"),
    answer("{}"),
    answer({"status": "completed"}),
    answer({"status": "thriving", "output": []}),
    answer(state("completed")),
    answer({**state("completed"), "output": [{"parts": "x"}]}),
    answer({**state("completed"), "output": [{"parts": [{"content": 5}]}]}),
    answer({**state("completed"), "output": [{"parts": [{"content_type": "image/png", "content": "AAAA"}]}]}),
    answer({**state("completed"), "output": [{"parts": [{"content": "?", "content_encoding": "base64"}]}]}),
    stream(b"data: nonsense\n\n"),
    stream(b"data: []\n\n"),
    stream({"run": {}}),
    stream({"type": 5}),
    stream({"type": "run.completed"}),
    stream({"type": "run.completed", "run": state("in-progress")}),
    stream({"type": "message.part", "part": {"content": 5}}),
    stream({"type": "message.part"}),
    stream(CREATED, OPENED, part("fi")),
    stream(),
]


@pytest.mark.parametrize("response", NO_RUNS, ids=range(len(NO_RUNS)))
@WAYS
async def test_what_is_no_run(backend: AcpCommBackend, way: Any, response: bytes):
    async with Server(POST_runs=response) as server:
        with pytest.raises(ProtocolError, match=f"^{server.address}: ") as caught:
            await way(backend, server)
    assert caught.value.retryable is True
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("401 Unauthorized", (AuthError, False)),
        ("404 Not Found", (RemoteError, False)),
        ("422 Unprocessable", (RemoteError, False)),
        ("429 Too Many Requests", (RateLimitedError, True)),
        ("500 Internal Server Error", (RemoteError, True)),
        ("307 Temporary", (RemoteError, False)),
    ],
)
@pytest.mark.parametrize("body", [HTML, "", {"code": "server_error", "message": "no"}, {"code": 7, "data": []}])
@WAYS
async def test_foreign_statuses(
    backend: AcpCommBackend, way: Any, status: str, expected: tuple[type[Exception], bool], body: Any
):
    async with Server(POST_runs=answer(body, status, "retry-after: 3")) as server:
        with pytest.raises(StreamingQueueError) as caught:
            await way(backend, server)
    assert (type(caught.value), caught.value.retryable) == expected
    assert str(caught.value).startswith(f"{server.address}: answered {status[:3]}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "head",
    [b"content-length: 52428800\r\n\r\nendless", b"\r\nendless", b"content-type: text/event-stream\r\n\r\nendless"],
)
@WAYS
async def test_an_answer_of_50_mb_is_not_read_to_its_end(backend: AcpCommBackend, way: Any, head: bytes):
    async with Server(POST_runs=b"HTTP/1.1 200 OK\r\n" + head) as server:
        with pytest.raises(
            ProtocolError, match=f"^{server.address}: .*over the limit of {MAX_EVENT_BYTES} bytes"
        ) as caught:
            await way(backend, server)
        assert caught.value.retryable is True
        await asyncio.sleep(0.05)
        assert server.sent < 50_000_000


ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\nendless"
NO_SERVER = [
    *(("GET /ping", response) for response in (answer(HTML), answer(HTML, "404 Not Found"), answer("[]"), ENDLESS)),
    *(("GET /agents", response) for response in (answer(HTML), answer(HTML, "404 Not Found"), answer("[]"), ENDLESS)),
    ("GET /agents", answer({"agents": "x"})),
    ("GET /agents", answer({"agents": [{"title": "x"}]})),
]


@pytest.mark.parametrize(("route", "response"), NO_SERVER, ids=range(len(NO_SERVER)))
async def test_a_server_that_is_no_acp_server_is_out_of_reach(backend: AcpCommBackend, route: str, response: bytes):
    async with Server(POST_runs=GOOD) as server:
        server.routes[route] = response
        with pytest.raises(ConnectError, match=f"^{server.address}[/:]") as caught:
            await send(backend, server)
        assert caught.value.retryable
        assert str(caught.value).isprintable()
        assert not await backend.health_check("w")
        assert not server.asked("POST /runs")


async def test_a_refused_credential_is_told_before_anything_is_asked(backend: AcpCommBackend):
    async with Server(GET_agents=answer({"code": "server_error", "message": "who are you?"}, "401 No")) as server:
        with pytest.raises(AuthError, match="check the agent's credential"):
            await send(backend, server)
        with pytest.raises(AuthError):
            await backend.describe("w")
        assert not server.asked("POST /runs")


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://no.such.host.invalid:80"])
async def test_nobody_there(backend: AcpCommBackend, address: str):
    await backend.register_endpoint("w", address)
    await backend.connect("c", "w")
    with pytest.raises(ConnectError, match=f"^{address}: cannot connect") as caught:
        await backend.send("c", "w", {"text": "q"})
    assert caught.value.retryable
    assert not await backend.health_check("w")


async def test_many_who_need_the_manifest_at_once_read_it_once(backend: AcpCommBackend):
    async with Server(POST_runs=GOOD) as server:
        await backend.register_endpoint("w", server.address)
        replies = await asyncio.gather(*(backend.send("c", "w", {"text": "q"}) for _ in range(20)))
        assert [reply["text"] for reply in replies] == ["fine"] * 20
        assert len(server.asked("GET /agents")) == 1


async def test_a_server_that_does_not_say_who_it_is(backend: AcpCommBackend, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streaming_queue.protocol_backend.acp.peer.MANIFEST_TIMEOUT_S", 0.05)
    async with Server(GET_agents=b"") as server:
        with pytest.raises(ConnectError, match=f"^{server.address}: no manifest within 0.05 s"):
            await send(backend, server)


# --- a connection that breaks ---


async def test_a_strangers_run_is_come_back_to_and_never_begun_again(backend: AcpCommBackend):
    lists = iter(
        [[CREATED, OPENED, part("fi")], [CREATED, OPENED, part("fi"), part("ne"), told("completed", "fi", "ne")]]
    )
    later = {
        "GET_runs__ID": answer(state("in-progress")),
        "GET_runs__ID__events": lambda: answer({"events": next(lists)}),
    }
    signs = 0

    def count() -> None:
        nonlocal signs
        signs += 1

    async with Server("reset", POST_runs=stream(CREATED, OPENED, part("fi"), end=False), **later) as server:
        with listening(count):
            assert await read(backend, server) == [
                {"type": DELTA, "data": "fi"},
                {"type": DELTA, "data": "ne"},
                {"type": MESSAGE, "data": "fine"},
            ]
        assert len(server.asked("POST /runs")) == 1
    assert signs >= 2


async def test_a_strangers_answer_is_come_back_for(backend: AcpCommBackend):
    whole = [CREATED, told("completed", "fine")]
    later = {"GET_runs__ID": answer(whole[1]["run"]), "GET_runs__ID__events": answer({"events": whole})}
    async with Server("reset", POST_runs=stream(CREATED, end=False), **later) as server:
        assert (await send(backend, server, idempotency_key="k"))["text"] == "fine"
        assert len(server.asked("POST /runs")) == 1


async def test_a_run_that_has_ended_ends_though_its_events_do_not_say_so(backend: AcpCommBackend):
    later = {"GET_runs__ID": answer(state("completed", "fine")), "GET_runs__ID__events": answer({"events": [CREATED]})}
    async with Server("reset", POST_runs=stream(CREATED, end=False), **later) as server:
        assert await read(backend, server) == [{"type": MESSAGE, "data": "fine"}]


async def test_pieces_that_come_between_the_list_and_the_end_are_read(backend: AcpCommBackend):
    begun = [CREATED, OPENED, part("fi")]
    lists = iter([begun, [*begun, part("ne"), told("completed", "fine")]])
    later = {
        "GET_runs__ID": answer(state("completed", "fine")),
        "GET_runs__ID__events": lambda: answer({"events": next(lists)}),
    }
    async with Server("reset", POST_runs=stream(*begun, end=False), **later) as server:
        events = await read(backend, server)
    assert [event["data"] for event in events] == ["fi", "ne", "fine"]


@pytest.mark.parametrize("known", [True, False])
@WAYS
async def test_a_strangers_run_that_is_gone_is_lost(backend: AcpCommBackend, way: Any, known: bool):
    broken = stream(CREATED, end=False, run_id=RUN_ID if known else None)
    async with Server("reset", POST_runs=broken) as server:
        with pytest.raises(ConnectError, match=f"^{server.address}: the connection broke") as caught:
            await way(backend, server, idempotency_key="k")
        assert caught.value.retryable
        assert len(server.asked("POST /runs")) == 1
        assert len(server.asked(f"GET /runs/{RUN_ID}")) == known


async def test_a_strangers_silent_stream_is_looked_after(backend: AcpCommBackend, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exchange, "SILENT_S", 0.05)
    seen = asyncio.Event()

    def count() -> None:
        if len(server.asked(f"GET /runs/{RUN_ID}")) >= 3:
            seen.set()

    async with Server(POST_runs=stream(CREATED, end=False), GET_runs__ID=answer(state("in-progress"))) as server:
        with listening(count):
            sending = asyncio.create_task(send(backend, server))
            await asyncio.wait_for(seen.wait(), 3)
        server.routes["GET /runs/ID"] = answer(state("completed", "fine"))
        server.routes["GET /runs/ID/events"] = answer({"events": [CREATED, told("completed", "fine")]})
        assert (await sending)["text"] == "fine"
        assert len(server.asked("POST /runs")) == 1


async def _answer(client: AcpCommBackend, payload: dict[str, Any], *, streams: bool) -> str:
    if not streams:
        return str((await client.send("c", "w", payload))["text"])
    return [event["data"] async for event in client.stream("c", "w", payload)][-1]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_host_of_ours_is_come_back_to(streams: bool):
    gate = Gate()
    host, client = AcpCommBackend(host_options=HostOptions(limits=LIMITS)), AcpCommBackend()
    handle = await host.spawn_local_agent("w", "127.0.0.1", 0, gate)
    try:
        relay = Relay.to(handle.base_url)
        assert relay is not None
        async with relay:
            await client.register_endpoint("w", relay.address(handle.base_url))
            payload = {"text": "q", "metadata": {"idempotency_key": "k"}}
            asking = asyncio.create_task(_answer(client, payload, streams=streams))
            await gate.started.wait()
            relay.reset()
            await relay.restore()
            await asyncio.sleep(0.1)
            gate.open.set()
            assert await asyncio.wait_for(asking, 5) == "answer 1"
            assert gate.runs == 1
            assert len(handle.runs) == 1
    finally:
        await client.close()
        await host.close()


# --- leaving ---


async def test_a_cancel_names_the_run_and_takes_a_second_at_the_most(backend: AcpCommBackend):
    async with Server(POST_runs=stream(CREATED, end=False), POST_runs__ID__cancel=b"") as server:
        sending = asyncio.create_task(send(backend, server))
        await soon(lambda: bool(server.asked("POST /runs")))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert 0.9 < time.monotonic() - started < 1.5
        assert server.lines()[-1] == f"POST /runs/{RUN_ID}/cancel"


@pytest.mark.parametrize(
    ("response", "metadata"), [(b"", {}), (stream(CREATED, end=False), {"kind": "command"})], ids=["no id", "command"]
)
async def test_no_cancel_of_what_has_no_name_or_is_a_command(
    backend: AcpCommBackend, response: bytes, metadata: dict[str, str]
):
    async with Server(POST_runs=response) as server:
        sending = asyncio.create_task(send(backend, server, **metadata))
        await soon(lambda: bool(server.asked("POST /runs")))
        await asyncio.sleep(0.05)
        sending.cancel()
        await asyncio.wait({sending})
        assert server.lines()[-1] == "POST /runs"


async def test_a_run_id_that_is_none_is_not_put_into_a_path(backend: AcpCommBackend):
    async with Server("reset", POST_runs=stream(CREATED, end=False, run_id="../../admin")) as server:
        with pytest.raises(ConnectError):
            await send(backend, server)
        assert server.lines()[2:] == ["POST /runs"]


async def test_closing_fails_what_is_under_way_and_what_comes_later(backend: AcpCommBackend):
    async with Server(POST_runs=stream(CREATED, end=False)) as server:
        sending = asyncio.create_task(send(backend, server))
        await soon(lambda: bool(server.asked("POST /runs")))
        await backend.close()
        with pytest.raises(BackendClosedError):
            await sending
        with pytest.raises(BackendClosedError):
            await send(backend, server)


async def test_proxies_of_the_environment_are_not_used(backend: AcpCommBackend, monkeypatch: pytest.MonkeyPatch):
    async with Server(POST_runs=GOOD) as thief, Server(POST_runs=GOOD) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, thief.address)
        await send(backend, server)
        assert thief.requests == []
