"""The rights at a server of our own: each login has those of its role, and a stranger none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from unit.comm.agents import Echo
from unit.protocol_backend.nats.servers import kept, settled

from streaming_queue.comm import local_logins
from streaming_queue.comm.base import HostOptions
from streaming_queue.errors import AuthError
from streaming_queue.exit_codes import ExitCode, exit_code
from streaming_queue.protocol_backend.nats import logins
from streaming_queue.protocol_backend.nats.address import Login, Server
from streaming_queue.protocol_backend.nats.comm import NatsCommBackend
from streaming_queue.protocol_backend.nats.server import LocalServer, start

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    running = await start("127.0.0.1", 0, HostOptions(), "agent 'w'", prefix="team.a")
    yield running
    await running.stop()


@pytest.fixture
async def backend() -> AsyncIterator[NatsCommBackend]:
    """A backend that hosts `w` at a server of its own."""
    backend = NatsCommBackend()
    try:
        agent = await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())
        await backend.register_endpoint("w", agent.base_url)
        yield backend
    finally:
        await backend.close()


class Account:
    """A client of nats-py alone with one login, and what the server denies it."""

    def __init__(self) -> None:
        self.client = Client()
        self.heard: list[tuple[str, bytes]] = []
        self._denials: list[str] = []

    async def connect(self, at: Server, login: Login) -> None:
        self.client = await nats.connect(
            str(at), user=login.user, password=login.password, error_cb=self._denied, allow_reconnect=False
        )

    async def _denied(self, error: Exception) -> None:
        self._denials.append(str(error))

    async def _hear(self, message: Any) -> None:
        self.heard.append((message.subject, message.data))

    async def may(self, right: str, subject: str, queue: str = "") -> bool:
        """Whether the server lets it `subscribe` or `publish`."""
        self._denials.clear()
        if right == "subscribe":
            await self.client.subscribe(subject, queue=queue, cb=self._hear)
        else:
            await self.client.publish(subject, b"")
        await settled(self.client)
        return not self._denials


@pytest.fixture
async def account() -> AsyncIterator[Callable[[Server, Login], Awaitable[Account]]]:
    made: list[Account] = []

    async def connect(at: Server, login: Login) -> Account:
        made.append(Account())
        await made[-1].connect(at, login)
        return made[-1]

    yield connect
    for each in made:
        await each.client.close()


EVERYTHING = [">", "*", "*.>", "team.>", "team.a.>", "_INBOX.>", "_INBOX.*.>", "$SYS.>", "$SYS.REQ.USER.INFO"]


async def test_an_asker_may_ask_and_hear_its_own_answers_and_nothing_else(server: LocalServer, account: Any):
    for login, other in ((server.logins.others[0], server.logins.others[1]), (server.logins.own, server.logins.host)):
        asker = await account(server.address, login)
        for subject in ("team.a.w", "team.a.w.health", "team.a.w.cancel", f"{server.logins.host.inbox}.x.1"):
            assert await asker.may("publish", subject)
        assert await asker.may("subscribe", f"{login.inbox}.x.*")
        for subject in [
            *EVERYTHING,
            "team.a.w",
            "team.a.*",
            "team.a.w.cancel",
            f"{other.inbox}.x.1",
            f"{other.inbox}.>",
        ]:
            assert not await asker.may("subscribe", subject), subject
            assert not await asker.may("subscribe", subject, queue="stq"), subject
        for subject in ("team.w", "team.b.w", "$SYS.REQ.USER.INFO", f"{login.inbox}.x.1", "_INBOX.ask-1.x.1"):
            assert not await asker.may("publish", subject), subject


async def test_a_host_may_answer_and_neither_ask_nor_hear_the_answers_of_others(server: LocalServer, account: Any):
    host = await account(server.address, server.logins.host)
    for subject in ("team.a.w", "team.a.w.health"):
        assert await host.may("subscribe", subject, queue="stq")
        assert not await host.may("subscribe", subject)
        assert not await host.may("subscribe", subject, queue="another")
        assert not await host.may("publish", subject)
    assert await host.may("subscribe", "team.a.w.cancel")
    assert await host.may("subscribe", f"{server.logins.host.inbox}.x.*")
    assert not await host.may("publish", "team.a.w.cancel")
    for login in (server.logins.own, *server.logins.others):
        assert not await host.may("subscribe", f"{login.inbox}.x.1")
        assert not await host.may("subscribe", f"{login.inbox}.>")
        assert await host.may("publish", f"{login.inbox}.x.1")
    for subject in ["team.b.w", "team.w", *EVERYTHING]:
        if subject != "team.a.>":  # all that is there is its own
            assert not await host.may("subscribe", subject), subject
    for subject in ("team.b.w", "team.w", "team.a.other", "$SYS.REQ.USER.INFO"):
        assert not await host.may("publish", subject), subject


@pytest.mark.parametrize("login", [Login(), Login("host", "guessed"), Login("own", ""), Login(token="guessed")])
async def test_a_stranger_is_refused(server: LocalServer, login: Login):
    client = Client()

    async def ignore(_: Exception) -> None:
        return

    with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
        await client.connect(
            str(server.address), user=login.user, password=login.password, token=login.token, allow_reconnect=False,
            error_cb=ignore,
        )  # fmt: skip
    await client.close()


async def test_each_server_has_passwords_of_its_own():
    first, second = logins.Logins.new(), logins.Logins.new()
    passwords = {login.password for each in (first, second) for login in (each.host, each.own, *each.others)}
    assert len(passwords) == 2 * (2 + logins.ASKERS)


async def test_a_backend_that_was_told_no_login_finds_the_users(backend: NatsCommBackend):
    other = NatsCommBackend()
    try:
        for host in ("127.0.0.1", "localhost"):
            await other.register_endpoint("w", backend.endpoint("w").replace("127.0.0.1", host))
            assert (await other.send("x", "w", {"text": "q"}))["text"] == "q"
            assert await other.health_check("w")
    finally:
        await other.close()


async def test_another_user_is_refused(backend: NatsCommBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    other = NatsCommBackend()
    try:
        await other.register_endpoint("w", backend.endpoint("w"))
        with pytest.raises(AuthError) as caught:
            await other.send("x", "w", {"text": "q"})
        assert exit_code(caught.value) is ExitCode.AUTH
    finally:
        await other.close()


async def test_another_user_may_be_given_a_login(
    backend: NatsCommBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    at = backend.endpoint("w").rpartition("/")[0]
    (user, password), *_ = (await kept(int(at.rpartition(":")[2]))).items()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    other = NatsCommBackend(url=at.replace("//", f"//{user}:{password}@"), prefix="stq")
    try:
        await other.register_endpoint("w", backend.endpoint("w"))
        assert (await other.send("x", "w", {"text": "q"}))["text"] == "q"
        with pytest.raises(AuthError):  # to ask is not to answer
            await other.spawn_local_agent("w", "", 0, Echo())
    finally:
        await other.close()


async def test_a_file_that_others_may_read_is_not_used(backend: NatsCommBackend, state_folder: Path):
    port = backend.endpoint("w").split(":")[2].partition("/")[0]
    (entry,) = state_folder.rglob(f"127.0.0.1:{port}")
    entry.chmod(0o644)
    other = NatsCommBackend()
    try:
        await other.register_endpoint("w", backend.endpoint("w"))
        with pytest.raises(AuthError) as caught:
            await other.send("x", "w", {"text": "q"})
        assert str(entry) in str(caught.value)
    finally:
        await other.close()


async def test_a_login_goes_to_the_address_that_its_process_serves_at():
    kept = {"ask": "s3cret"}
    for host in ("127.0.0.1", "h"):
        await asyncio.to_thread(local_logins.entry(host, 4999, kept).write)
    others = [("tls", "127.0.0.1", 4999), ("nats", "h", 4999), ("nats", "127.0.0.2", 4999), ("nats", "127.0.0.1", 4998)]
    for server in (Server(*other) for other in others):
        assert await logins.find(server) == (server, Login())
    for host in ("127.0.0.1", "localhost"):
        found = await logins.find(Server("nats", host, 4999))
        assert found == (Server("nats", "127.0.0.1", 4999), Login("ask", "s3cret"))


async def test_who_listens_to_everything_hears_nothing_of_a_question(backend: NatsCommBackend, account: Any):
    at = backend.endpoint("w").rpartition("/")[0]
    port = int(at.rpartition(":")[2])
    for user, password in (await kept(port)).items():
        spy = await account(Server("nats", "127.0.0.1", port), Login(user, password))
        for subject in (*EVERYTHING, "stq.w", "stq.>", "_INBOX.own.>", "_INBOX.host.>"):
            await spy.may("subscribe", subject)
            await spy.may("subscribe", subject, queue="stq")
        assert (await backend.send("x", "w", {"text": "q"}))["text"] == "q"
        await settled(spy.client)
        assert spy.heard == []
