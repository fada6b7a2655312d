from __future__ import annotations

import asyncio
import sys
import types
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from unit.comm.agents import Gate

from streaming_queue.comm import registry
from streaming_queue.comm.base import HostOptions
from streaming_queue.config import Config
from streaming_queue.doctor import agent as module
from streaming_queue.doctor.agent import agent, describe_facts, endpoint
from streaming_queue.doctor.finding import Level

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@asynccontextmanager
async def hosted(protocol, **options):
    """An agent that is never to be asked, and its address."""
    backend = registry.create(protocol, host_options=HostOptions(**options))
    gate = Gate()
    try:
        yield (await backend.spawn_local_agent("Ada", "127.0.0.1", 0, gate)).base_url
    finally:
        await backend.close()
    assert gate.runs == 0


def over(protocol, token=None):
    return Config.of({"protocol": protocol, "network": {"token": token}})


async def only_ada(credential):
    return "ada" if credential == "s3cret-s3cret" else None


@pytest.mark.parametrize("protocol", ["http", "a2a"])
async def test_a_healthy_agent(protocol):
    async with hosted(protocol) as url:
        address, found, clock = await agent("agent", url, over(protocol))
    assert [finding.level for finding in (address, found, clock)] == [Level.OK] * 3
    assert address.seen.startswith(f"agent at {url}: 127.0.0.1, connected in ")
    assert found.seen.startswith(f"agent at {url}: healthy; ")
    assert "Ada" in found.seen
    assert clock.seen == f"agent at {url}: equal to ours, to the second"


async def test_the_card_is_shown():
    async with hosted("a2a") as url:
        _, found, _ = await agent("agent", url, over("a2a"))
    assert (
        "interfaces JSONRPC 1.0 / HTTP+JSON 1.0 / JSONRPC 0.3 / HTTP+JSON 0.3; "
        f"used JSONRPC 1.0 at {url}/; streaming yes; call extension yes"
    ) in found.seen


@pytest.mark.parametrize("protocol", ["http", "a2a"])
@pytest.mark.parametrize("credential", [None, "wr0ng-wr0ng"])
async def test_a_refused_credential(protocol, credential):
    async with hosted(protocol, authenticator=only_ada) as url:
        address, found = await agent("agent", url, over(protocol, credential))
    assert (address.level, found.level, found.code) == (Level.OK, Level.PROBLEM, 77)
    assert "network.token" in found.remedy
    assert "wr0ng" not in found.seen + found.remedy


@pytest.mark.parametrize("protocol", ["http", "a2a"])
async def test_an_accepted_credential(protocol):
    async with hosted(protocol, authenticator=only_ada) as url:
        found = await agent("agent", url, over(protocol, "s3cret-s3cret"))
    assert {finding.level for finding in found} == {Level.OK}


@pytest.mark.parametrize("protocol", ["http", "a2a"])
async def test_no_server_there(protocol):
    (finding,) = await agent("agent", "http://127.0.0.1:9", over(protocol))
    assert (finding.check, finding.level, finding.code) == ("address", Level.PROBLEM, 69)
    assert finding.seen == "agent at http://127.0.0.1:9: nothing listens at 127.0.0.1:9"


@pytest.mark.parametrize(
    ("address", "protocol", "check", "said"),
    [
        ("tcp://127.0.0.1:9", "http", "address", "must be http://host:port"),
        ("http://", "http", "address", "must be http://host:port"),
        ("http://127.0.0.1:9", "htpt", "protocol", "unknown protocol 'htpt'"),
    ],
)
async def test_a_wrong_address_or_protocol(address, protocol, check, said):
    (finding,) = await agent("agent", address, over(protocol))
    assert (finding.check, finding.level, finding.code) == (check, Level.PROBLEM, 2)
    assert said in finding.seen


async def test_a_password_in_an_address_is_not_shown():
    (finding,) = await agent("agent", "http://ada:hunter2@127.0.0.1:9", over("http"))
    assert finding.code == 2
    assert "hunter2" not in finding.seen


@asynccontextmanager
async def peer(response):
    """A server that answers each request with `response`; None: it says nothing."""
    hanging = set()

    async def serve(reader, writer):
        hanging.add(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if response is not None:
                    writer.write(response)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


def answer(body, status="200 OK", *headers):
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


HEALTHY = '{"status": "ok"}'


@pytest.mark.parametrize("protocol", ["http", "a2a"])
@pytest.mark.parametrize("response", [answer("<html>hello"), answer("no", "404 Not Found"), b"SSH-2.0-x\r\n"])
async def test_another_program_is_there(protocol, response):
    async with peer(response) as url:
        _, found = await agent("agent", url, over(protocol))
    assert (found.level, found.code) == (Level.PROBLEM, 69)
    assert f"speaks {protocol} (-p)" in found.remedy


@pytest.mark.parametrize("protocol", ["http", "a2a"])
async def test_an_agent_that_says_nothing(protocol, monkeypatch):
    monkeypatch.setattr(module, "STEP_S", 0.2)
    async with peer(None) as url:
        _, found = await agent("agent", url, over(protocol))
    assert (found.level, found.code) == (Level.PROBLEM, 69)
    assert "sends nothing for 0.2 s" in found.seen


async def test_an_agent_that_is_not_well():
    async with peer(answer('{"status": "degraded"}')) as url:
        _, found = await agent("agent", url, over("http"))
    assert (found.level, found.code) == (Level.PROBLEM, 69)
    assert found.seen.endswith("it answers, but it is not healthy; status degraded")


@pytest.mark.parametrize(("off_s", "level"), [(-60, "behind"), (60, "ahead of"), (-4, None), (4, None)])
async def test_a_clock_that_differs(off_s, level):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=off_s), usegmt=True)
    async with peer(answer(HEALTHY, "200 OK", f"Date: {date}")) as url:
        *_, clock = await agent("agent", url, over("http"))
    assert clock.check == "agent clock"
    if level is None:
        assert clock.level is Level.OK
    else:
        assert clock.level is Level.WARNING
        assert f"s {level} ours" in clock.seen


async def test_no_clock_no_finding():
    async with peer(answer(HEALTHY)) as url:
        found = await agent("agent", url, over("http"))
    assert [finding.check for finding in found] == ["address", "agent"]


async def test_a_strangers_words_are_short_and_harmless():
    hostile = '{"status": "ok", "\\u001b[2J": "\\u202e' + "x" * 10_000 + '", "list": [1, "\\n"], "no": false}'
    async with peer(answer(hostile)) as url:
        _, found = await agent("agent", url, over("http"))
    assert found.seen.isprintable()
    assert len(found.seen) < 500
    assert found.seen.endswith("; list 1 / \\n; no no")


def test_facts_are_bounded():
    assert describe_facts({str(number): number for number in range(100)}).count(";") == module.MOST_FACTS - 1


async def test_one_of_many_is_a_line_unless_something_is_wrong():
    async with hosted("http") as url:
        (found,) = await endpoint("Worker-1", url, over("http"))
    assert (found.check, found.level) == ("agent", Level.OK)
    (found,) = await endpoint("Worker-1", url, over("http"))
    assert (found.check, found.level) == ("address", Level.PROBLEM)


@pytest.mark.parametrize("healthy", [True, False])
async def test_a_backend_after_the_guide_has_its_probe(monkeypatch, healthy):
    class Backend:
        async def send(self, src_id, dst_id, payload):
            raise AssertionError("a doctor asks nothing")

        async def register_endpoint(self, agent_id, address):
            self.known = (agent_id, address)

        async def health_check(self, agent_id):
            return healthy and self.known == (agent_id, "guide:somewhere")

        async def close(self):
            await asyncio.sleep(0 if healthy else 60)  # one that does not end holds up nobody

    module_ = types.ModuleType("guide_backend")
    module_.Backend = Backend
    monkeypatch.setitem(sys.modules, "guide_backend", module_)
    monkeypatch.setattr(module, "CLOSE_S", 0.2)
    address, found = await agent("agent", "guide:somewhere", over("guide_backend:Backend"))
    assert address.level is Level.OK
    assert found.code == (0 if healthy else 69)
