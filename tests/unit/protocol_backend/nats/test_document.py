"""docs/protocols/nats.md says what is true, and the worker that it shows is one."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import Echo
from unit.protocol_backend.nats.servers import NatsServer

from streaming_queue.comm.answer_limit import MAX_ANSWER_BYTES
from streaming_queue.comm.base import HostLimits
from streaming_queue.comm.context import HEADER_BY_KEY
from streaming_queue.comm.host.execution import HEARTBEAT_S
from streaming_queue.config.load import PROVIDER_VARIABLES
from streaming_queue.errors import ConfigError, ConnectError, RateLimitedError
from streaming_queue.messages import MESSAGE
from streaming_queue.protocol_backend.nats import (
    codec,
    connecting,
    host,
    inbox,
    logins,
    peer,
    request,
    server,
)
from streaming_queue.protocol_backend.nats.options import Nats

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

TEXT = (Path(__file__).parents[4] / "docs" / "protocols" / "nats.md").read_text(encoding="utf-8")
FLOWING = " ".join(TEXT.split())


async def test_the_worker_shown_is_a_worker(shared_server: NatsServer, make: Any, tmp_path: Path):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    script = tmp_path / "worker.py"
    script.write_text(code)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), shared_server.url, "shouter", stdout=PIPE
    )
    backend = make()
    try:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().strip()
        await backend.register_endpoint("w", address)
        assert await backend.health_check("w")
        assert await backend.describe("w") == {"status": "ok", "agent_id": "shouter"}
        assert (await backend.send("c", "w", {"text": "hello"}))["text"] == "HELLO"
        assert [event async for event in backend.stream("c", "w", {"text": "hello"})] == [
            {"type": MESSAGE, "data": "HELLO"}
        ]
        with pytest.raises(ConfigError, match="text only"):
            await backend.send("c", "w", {"parts": [{"kind": "text", "text": "x"}]})
    finally:
        process.kill()
        await process.communicate()
    async with asyncio.timeout(30):
        while await backend.health_check("w"):
            continue  # until the server has seen that its connection is gone
    with pytest.raises(ConnectError):
        await backend.send("c", "w", {"text": "hello"})


async def test_the_request_shown_is_answered_as_shown(shared_server: NatsServer, make: Any, plain: Any):
    subject, message = re.findall(r"^nats request (\S+) '(.*)'$", TEXT, re.MULTILINE)[0]
    prefix, _, agent_id = subject.partition(".")
    await make(shared_server.url, prefix=prefix).spawn_local_agent(agent_id, "", 0, Echo())
    answer = await (await plain(shared_server.url)).request(subject, message.encode())
    assert json.loads(answer.data) == {"type": MESSAGE, "data": json.loads(message)["text"]}


def test_the_replies_shown_are_events_of_every_kind():
    shown = [line for line in TEXT.splitlines() if line.startswith('{"type"')]
    *events, failure = [line.encode() for line in shown if "Paris" not in line]
    heartbeat, *told = [codec.decode_event(line, "x") for line in events]
    assert heartbeat is None
    assert json.loads(events[0]) == json.loads(codec.encode_event(None)) == {"type": "agent_heartbeat"}
    assert [event["type"] for event in told] == ["agent_status", "agent_text_delta", MESSAGE]
    with pytest.raises(RateLimitedError) as caught:
        codec.decode_event(failure, "x")
    assert caught.value.retry_after_s == 2.5


def test_every_header_and_every_key_is_listed():
    for name in (*HEADER_BY_KEY.values(), codec.STREAM_HEADER, codec.CREDENTIAL_HEADER):
        assert re.search(rf"^\| .*`{name}`", TEXT, re.MULTILINE), name
    assert re.findall(r"^\| `nats\.(\w+)`", TEXT, re.MULTILINE) == list(Nats.model_fields)
    for variable, key in PROVIDER_VARIABLES.items():
        if key.startswith("nats."):
            assert f"| `{key}` | `{variable}` |" in TEXT


@pytest.mark.parametrize(
    "said",
    [
        f"of up to {server.MAX_PAYLOAD_BYTES // 2**20} MiB",
        f"queue group (`{codec.QUEUE_GROUP}`)",
        f"a ping for {3 * connecting.PING_S} s",
        f"sends it {host.FIRST_SIGN_S:g} s after",
        f"then every {HEARTBEAT_S:g} s",
        f"`ask-0` to `ask-{logins.ASKERS - 1}`",
        f"every {'half' if inbox.WATCH_S == 0.5 else inbox.WATCH_S} second",
        f"for {request.SILENCE_S:g} s is lost",
        f"within {peer.PATIENCE_S:g} s if the server was lost",
        f"more than {MAX_ANSWER_BYTES // 2**20} MiB",
        f"{HostLimits().connections} requests are in flight",
    ],
)
def test_the_figures_are_true(said: str):
    assert said in FLOWING
