"""Whose calls are taken: documents given, documents that this user's processes leave, documents fetched."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult
from unit.comm.agents import Echo
from unit.protocol_backend.anp.publisher import certificate, publisher, server_context

from streaming_queue.errors import AuthError, ConfigError
from streaming_queue.protocol_backend.anp import resolver
from streaming_queue.protocol_backend.anp.comm import AnpCommBackend
from streaming_queue.protocol_backend.anp.documents import MAX_DOCUMENT_BYTES, Neighbours, is_did, parse_document
from streaming_queue.protocol_backend.anp.identity import Identity
from streaming_queue.protocol_backend.anp.resolver import ResolutionError, Resolver

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


async def asks(caller: AnpCommBackend, url: str) -> str:
    await caller.register_endpoint("w", url)
    return str((await caller.send("c", "w", {"text": "hello"}))["text"])


async def hosted(backend: AnpCommBackend) -> str:
    return (await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())).base_url


# --- by configuration ---


@pytest.mark.parametrize("form", ["caller", "caller/did.json", "."])
async def test_documents_that_are_given(backend: Any, caller: Identity, stranger: Identity, tmp_path: Path, form: str):
    url = await hosted(backend(trusted=[str(tmp_path / form)]))
    assert await asks(backend(identity=str(tmp_path / "caller")), url) == "hello"
    if form == ".":
        assert await asks(backend(identity=str(tmp_path / "stranger")), url) == "hello"
        return
    with pytest.raises(AuthError, match="does not trust it") as caught:
        await asks(backend(identity=str(tmp_path / "stranger")), url)
    assert stranger.did in str(caught.value)
    assert "anp.trusted" in str(caught.value)
    assert not caught.value.retryable


async def test_whoever_has_our_own_identity_is_trusted(
    backend: Any, caller: Identity, stranger: Identity, tmp_path: Path
):
    url = await hosted(backend(identity=str(tmp_path / "caller"), trusted=[str(tmp_path / "stranger")]))
    assert await asks(backend(identity=str(tmp_path / "caller")), url) == "hello"
    assert await asks(backend(identity=str(tmp_path / "stranger")), url) == "hello"
    with pytest.raises(AuthError, match="does not trust it"):
        await asks(backend(), url)


async def test_agents_of_one_backend_know_each_other(backend: Any, caller: Identity, tmp_path: Path):
    made = backend(trusted=[str(tmp_path / "caller")])
    assert await asks(made, await hosted(made)) == "hello"


# --- this user's processes ---


async def test_without_any_this_users_processes_are_trusted(backend: Any, temporary_directory: Path):
    url = await hosted(backend())
    calling = backend()
    assert await asks(calling, url) == "hello"
    folder = temporary_directory / f"streaming-queue-{os.getuid()}" / "anp"
    assert (folder.stat().st_mode & 0o777, folder.parent.stat().st_mode & 0o777) == (0o700, 0o700)
    assert len(list(folder.iterdir())) == 1
    await calling.close()
    assert list(folder.iterdir()) == []


async def test_another_users_are_not(backend: Any, tmp_path: Path):
    calling = backend()
    calling._neighbours = Neighbours(tmp_path / "elsewhere")  # where another user's would lie
    with pytest.raises(AuthError, match="does not trust it"):
        await asks(calling, await hosted(backend()))


def open_to_others(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    folder.chmod(0o777)


def elsewhere(folder: Path) -> None:
    target = folder.with_name("elsewhere")
    target.mkdir(mode=0o700)
    folder.symlink_to(target)


@pytest.mark.parametrize("spoil", [open_to_others, elsewhere])
@pytest.mark.parametrize("level", ["", "anp"])
def test_a_directory_that_others_can_write_to_is_not_read(
    temporary_directory: Path, caller: Identity, spoil: Any, level: str
):
    folder = temporary_directory / f"streaming-queue-{os.getuid()}"
    if level:
        folder.mkdir(mode=0o700)
    spoil(folder / level)
    (folder / "anp").mkdir(exist_ok=True)
    for attempt in (lambda: Neighbours().find(caller.did), lambda: Neighbours().announce(caller.document)):
        with pytest.raises(ConfigError, match="that only this user can write to"):
            attempt()


async def test_who_cannot_be_announced_still_calls(
    backend: Any, temporary_directory: Path, caplog: Any, caller: Identity, tmp_path: Path
):
    (temporary_directory / f"streaming-queue-{os.getuid()}").write_text("in the way")
    url = await hosted(backend(trusted=[str(tmp_path / "caller")]))
    assert await asks(backend(identity=str(tmp_path / "caller")), url) == "hello"
    assert "other processes of this user cannot read our DID document" in caplog.text


def test_what_a_killed_process_left_is_swept_away(temporary_directory: Path, caller: Identity):
    script = (
        "import json, signal, sys; from streaming_queue.protocol_backend.anp.documents import Neighbours; "
        "from pathlib import Path; Neighbours(Path(sys.argv[1])).announce(json.load(sys.stdin)); print(flush=True); signal.pause()"
    )
    folder = temporary_directory / "shared" / "anp"
    folder.parent.mkdir(mode=0o700)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdin.write(json.dumps(caller.document))
        process.stdin.close()
        process.stdout.readline()
        mine = Neighbours(folder)
        mine.announce(Identity.create("mine").document)
        assert mine.find(caller.did) == caller.document
        process.send_signal(signal.SIGKILL)
        process.wait()
    later = Neighbours(folder)
    later.announce(Identity.create("later").document)
    assert mine.find(caller.did) is None
    assert len(list(folder.iterdir())) == 2
    mine.withdraw()
    later.withdraw()
    mine.withdraw()
    assert list(folder.iterdir()) == []


# --- documents ---


def test_a_document_speaks_for_the_did_that_names_its_key(caller: Identity, stranger: Identity):
    def reading(**changes: Any) -> Any:
        return parse_document(json.dumps({**caller.document, **changes}).encode())

    assert reading() == caller.document
    for changes in (
        {"id": stranger.did},
        {"verificationMethod": stranger.document["verificationMethod"]},
        {"proof": stranger.document["proof"]},
        {"proof": None},
        {"authentication": "all"},
        {"verificationMethod": [7]},
        {"service": [{"id": "#added"}]},
    ):
        with pytest.raises(ValueError, match=r"DID|did:wba|proof|keys|malformed"):
            reading(**changes)


@pytest.mark.parametrize("text", ["did:wba:example.com", "did:wba:localhost%3A8000:a:e1_x-_y", "did:wba:a.b:c.d"])
def test_dids(text: str):
    assert is_did(text)


@pytest.mark.parametrize(
    "text",
    ["did:web:example.com", "did:wba:", "did:wba:a/b", "did:wba:a%2Fb", "did:wba:u%40h", "did:wba:a:..%2F", "did:wba:a%3A",
     "did:wba:a%3A123456", "did:wba:a:b#key", "did:wba:" + "a" * 600, "did:wba:[::1]", "did:wba:127.0.0.1%3A8000:a",
     "did:wba:2130706433", "did:wba:127.1", "did:wba:0x7f000001", "did:wba:-a", "did:wba:a..b", "", None],
)  # fmt: skip
def test_what_is_no_did(text: Any):
    assert not is_did(text)


# --- fetched ---


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return server_context(path)


@asynccontextmanager
async def published(tls: Any, answer: Callable[[Identity], Any] = lambda made: dict(made.document)):
    """An identity whose document lies where its DID says, or what `answer` makes of it."""
    async with publisher(tls, answers := {}) as (port, asked):
        made = Identity.create("caller", port=port)
        answers[made.path] = answer(made)
        yield made, asked


async def test_a_did_that_is_trusted_is_resolved_over_https(backend: Any, tls: Any, tmp_path: Path):
    async with published(tls) as (made, asked):
        await asyncio.to_thread(made.save, tmp_path / "published")
        url = await hosted(backend(trusted=[made.did], allow_private=True))
        calling = backend(identity=str(tmp_path / "published"))
        assert await asks(calling, url) == "hello"
        assert await asks(calling, url) == "hello"
        assert asked == [made.path]  # once: then the bearer token stands
        with pytest.raises(AuthError, match="does not trust it"):
            await asks(backend(), url)
        assert await asks(calling, await hosted(backend(trusted=["*"], allow_private=True))) == "hello"
        with pytest.raises(AuthError, match="no public address"):
            await asks(calling, await hosted(backend(trusted=[made.did])))
        assert len(asked) == 2


async def test_a_certificate_that_nobody_vouches_for(tls: Any, monkeypatch: pytest.MonkeyPatch):
    async with published(tls) as (made, asked):
        assert await Resolver(allow_private=True).fetch(made.did) == made.document
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(ResolutionError, match="cannot be fetched"):
            await Resolver(allow_private=True).fetch(made.did)
        assert len(asked) == 1


def other(made: Identity) -> Any:
    return dict(Identity.create("other").document)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (other, "another DID"),
        (lambda made: {"id": made.did}, "no valid DID document"),
        (lambda made: lambda: web.Response(body=b"<html>"), "no valid DID document"),
        (lambda made: lambda: web.Response(status=302, headers={"Location": "https://localhost/x"}), "answers 302"),
        (lambda made: lambda: web.Response(body=b" " * (MAX_DOCUMENT_BYTES + 1)), "is over 65536 bytes"),
        (lambda made: None, "answers 404"),
    ],
)  # fmt: skip
async def test_what_is_served_is_not_the_document(tls: Any, answer: Any, words: str):
    async with published(tls, answer) as (made, _):
        with pytest.raises(ResolutionError, match=words):
            await Resolver(allow_private=True).fetch(made.did)


async def test_a_host_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resolver, "TIMEOUT_S", 0.2)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ResolutionError, match=r"within 0\.2 s"):
            await Resolver(allow_private=True).fetch(f"did:wba:localhost%3A{port}")


async def test_addresses_that_no_stranger_may_make_us_reach(monkeypatch: pytest.MonkeyPatch):
    async with asyncio.timeout(3):
        with pytest.raises(ResolutionError, match="no public address"):
            await Resolver().fetch("did:wba:localhost%3A9:x")
    for address in ("10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:127.0.0.1", "0.0.0.0", "100.64.0.1"):
        names = resolver._PublicAddresses()
        found = [ResolveResult(hostname="h", host=address, port=9, family=0, proto=0, flags=0)]

        async def resolve(*_: Any, found: Any = found) -> Any:
            return found

        monkeypatch.setattr(names._names, "resolve", resolve)
        with pytest.raises(ResolutionError, match="no public address"):
            await names.resolve("h")
        found.append({**found[0], "host": "1.1.1.1"})
        assert [each["host"] for each in await names.resolve("h")] == ["1.1.1.1"]
        await names.close()
