"""The endpoint and its client, over a real socket."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from unit.control.runs import ids, owner

from streaming_queue.control import client as client_module
from streaming_queue.control.client import ControlClient
from streaming_queue.control.open_control import open_control
from streaming_queue.control.server import serve_control
from streaming_queue.errors import AuthError, ConfigError, ConnectError, ProtocolError, SendTimeoutError

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest_asyncio.fixture
async def announced(control, queue, directory):
    """The control, served; what its owner announces."""
    async with serve_control(control, queue):
        yield (await owner(directory)).control


@pytest_asyncio.fixture
async def run(announced, directory):
    async with ControlClient(directory.path, **announced) as run:
        yield run


async def test_it_is_announced_in_the_lock_file_for_its_owner_while_it_is_served(control, queue, directory):
    async with serve_control(control, queue):
        announced = await owner(directory)
        assert announced.pid == os.getpid()
        assert announced.control["address"].startswith("http://127.0.0.1:")
        assert len(announced.control["token"]) >= 43
        lock = directory.queue_path.with_name("queue.db.lock")
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert (await owner(directory)).control is None
    async with ControlClient(directory.path, **announced.control) as client:
        with pytest.raises(ConnectError, match="perhaps it has just ended"):
            await client.stats()


async def test_no_two_runs_have_one_token(control, queue, directory):
    tokens = set()
    for _ in range(2):
        async with serve_control(control, queue):
            tokens.add((await owner(directory)).control["token"])
    assert len(tokens) == 2


async def test_everything_is_the_same_through_the_endpoint(run, control, queue, steered):
    assert run.live
    assert await run.stats() == await control.stats()
    assert await run.dead_letters(limit=2) == await control.dead_letters(limit=2)
    assert await run.dead_letter("q1") == await control.dead_letter("q1")
    assert (await run.pause())["state"] == "paused"
    assert (await run.resume())["state"] == "running"
    assert await run.replay(reason="ConnectError") == 2
    assert await run.purge(ids=["q2"]) == 1
    assert (await queue.counts()).dead == 1
    assert (await run.drain())["state"] == "draining"
    assert steered.draining


async def test_errors_come_through_as_themselves(run):
    with pytest.raises(ConfigError, match="'nobody' is not a dead letter"):
        await run.dead_letter("nobody")
    with pytest.raises(ConfigError, match="no failure is of type 'Typo'"):
        await run.replay(reason="Typo")


async def test_without_the_token_every_command_is_refused(announced, directory):
    async with ControlClient(directory.path, announced["address"], "wrong") as client:
        with pytest.raises(AuthError):
            await client.stats()
    async with aiohttp.ClientSession() as session:
        for path in ("/stats", "/health", "/"):
            async with session.post(announced["address"] + path) as response:
                assert response.status == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/nonsense", b"", 404, "config"),
        ("POST", "/__init__", b"", 404, "config"),
        ("GET", "/stats", b"", 405, "config"),
        ("POST", "/stats", b'{"x": 1}', 400, "protocol"),
        ("POST", "/replay", b"[" * 5000, 400, "protocol"),
    ],
)
async def test_what_is_no_command_is_refused_with_a_reason(announced, method, path, body, status, code):  # noqa: PLR0917
    headers = {"Authorization": f"Bearer {announced['token']}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, announced["address"] + path, data=body) as response,
    ):
        assert response.status == status
        assert (await response.json())["error"]["code"] == code


async def test_an_internal_error_is_sent_without_its_text(run, control, monkeypatch, caplog):
    async def fail():
        raise KeyError("a secret")

    monkeypatch.setattr(control, "stats", fail)
    with pytest.raises(Exception, match="its log has the reason") as caught:
        await run.stats()
    assert "secret" not in str(caught.value)
    assert "control: stats failed" in caplog.text


async def test_a_run_that_hangs_is_given_up(run, control, monkeypatch):
    async def hang():
        await asyncio.Event().wait()

    monkeypatch.setattr(control, "stats", hang)
    monkeypatch.setattr(client_module, "REPLY_S", 0.05)
    with pytest.raises(SendTimeoutError, match="no answer to 'stats' within"):
        await run.stats()


@pytest.mark.parametrize("result", [[1], "text", None])
async def test_an_answer_of_another_kind_is_none(run, control, monkeypatch, result):
    async def answer(**_):
        return result

    for name in ("stats", "purge"):
        monkeypatch.setattr(control, name, answer)
        with pytest.raises(ProtocolError, match="not an answer of a run"):
            await getattr(run, name)()


async def test_a_live_run_is_reached_by_its_directory(announced, directory):
    async with open_control(directory.path) as run:
        assert run.live
        assert ids(await run.dead_letters()) == ["q1", "q2", "q3", "q4"]


async def test_a_queue_that_closed_itself_hides_nothing(control, queue, directory):
    with pytest.raises(ZeroDivisionError):
        async with serve_control(control, queue):
            await queue.close()
            raise ZeroDivisionError


async def test_the_client_carries_no_secret_in_its_errors(announced, directory):
    async with ControlClient(Path("run"), "http://127.0.0.1:1", announced["token"]) as client:
        with pytest.raises(ConnectError) as caught:
            await client.stats()
    assert announced["token"] not in str(caught.value)
