"""Servers that ask who we are, and those that must prove who they are."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import Echo
from unit.protocol_backend.nats import jwt_login
from unit.protocol_backend.nats.servers import NatsServer, pretender

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.errors import AuthError, ConfigError, ConnectError
from streaming_queue.exit_codes import ExitCode, exit_code
from streaming_queue.protocol_backend.nats.comm import NatsCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@asynccontextmanager
async def backend(url: str | None = None, **options: Any) -> AsyncIterator[NatsCommBackend]:
    made = NatsCommBackend(url=url, **options)
    try:
        yield made
    finally:
        await made.close()


async def asked(url: str, **options: Any) -> str:
    """Host an agent there, ask it, and return its address."""
    async with backend(url, **options) as made:
        handle = await made.spawn_local_agent("w", "", 0, Echo())
        await made.register_endpoint("w", handle.base_url)
        assert (await made.send("c", "w", {"text": "q"}))["text"] == "q"
        return handle.base_url


async def refused(url: str, *secrets: str, caplog: pytest.LogCaptureFixture, **options: Any) -> None:
    caplog.set_level(logging.DEBUG)
    async with backend(url, **options) as made:
        with pytest.raises(AuthError, match=r"refuses our credentials; check nats\.url") as caught:
            await made.spawn_local_agent("w", "", 0, Echo())
        assert exit_code(caught.value) is ExitCode.AUTH
        address = url.rpartition("@")[2].removeprefix("nats://")
        await made.register_endpoint("w", f"nats://{address}/w")
        with pytest.raises(AuthError):
            await made.send("c", "w", {"text": "q"})
        assert await made.health_check("w")
    for secret in secrets:
        assert secret not in str(caught.value)
        assert secret not in caplog.text


async def test_a_user_and_a_password(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with NatsServer(tmp_path, 'authorization {user: "me", password: "s3:cr@et"}') as server:
        at = f"127.0.0.1:{server.port}"
        assert "me" not in (await asked(f"nats://me:s3%3Acr%40et@{at}")).rpartition("//")[2].partition("/")[0]
        await refused(f"nats://me:wrong-one@{at}", "wrong-one", caplog=caplog)
        await refused(f"nats://{at}", caplog=caplog)


async def test_a_token(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with NatsServer(tmp_path, 'authorization {token: "s3cret"}') as server:
        await asked(f"nats://s3cret@127.0.0.1:{server.port}")
        await refused(f"nats://wrong-one@127.0.0.1:{server.port}", "wrong-one", caplog=caplog)


async def test_a_file_of_credentials(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    configuration, path, seed = jwt_login.make(tmp_path)
    with NatsServer(tmp_path, configuration) as server:
        await asked(server.url, credentials=str(path))
        (tmp_path / "strange").mkdir()
        _, strange, _ = jwt_login.make(tmp_path / "strange")
        await refused(server.url, seed, caplog=caplog, credentials=str(strange))
        for name, text in (("none", None), ("empty", ""), ("seedless", path.read_text().partition("-----BEGIN USER")[0]),
                           ("wrong", path.read_text().replace(seed, seed[:10])), ("binary", "\udcff")):  # fmt: skip
            wrong = tmp_path / name
            if text is not None:
                wrong.write_bytes(text.encode("utf-8", "surrogateescape"))
            async with backend(server.url, credentials=str(wrong)) as made:
                with pytest.raises(ConfigError, match=r"nats\.credentials") as caught:
                    await made.spawn_local_agent("w", "", 0, Echo())
                assert str(wrong) in str(caught.value)
                assert seed[:20] not in str(caught.value)


def test_credentials_without_a_server_are_refused():
    with pytest.raises(ConfigError, match=r"set nats\.url"):
        NatsCommBackend(credentials="a.creds")


RIGHTS = """
authorization {
  users: [{user: "me", password: "x", permissions: {
    publish: ["_INBOX.>", "asked", "asked.>"], subscribe: ["_INBOX.>", "own.>"]}}]
}
"""


async def test_a_right_that_is_missing_is_told_and_nothing_waits_for_it(tmp_path: Path):
    with NatsServer(tmp_path, RIGHTS) as server:
        url = f"nats://me:x@127.0.0.1:{server.port}"
        async with asyncio.timeout(5), backend(url, prefix="Others") as made:
            with pytest.raises(AuthError, match=r'subscription to "others\.w'):
                await made.spawn_local_agent("w", "", 0, Echo())
            ((_, inbox),) = made._inboxes.items()
            assert [subscription.subject for subscription in inbox.link._subscriptions] == [f"{inbox._prefix}*"]
            await made.register_endpoint("w", f"{server.url}/Forbidden")
            with pytest.raises(AuthError, match=f'{server.url}/Forbidden: .*publish to "forbidden"'):
                await made.send("c", "w", {"text": "q"})
            await made.register_endpoint("w", f"{server.url}/asked")
            with pytest.raises(ConnectError, match="no agent listens"):
                await made.send("c", "w", {"text": "q"})
        async with backend(url, prefix="own") as made:
            await made.spawn_local_agent("w", "", 0, Echo())


ROLES = """
authorization {
  users: [
    {user: "an agent", password: "x", permissions: {
      subscribe: ["team.w stq", "team.w.health stq", "team.w.cancel", "_INBOX.an%20agent.>"], publish: ["_INBOX.asker.>"]}}
    {user: "asker", password: "y", permissions: {
      subscribe: ["_INBOX.asker.>"], publish: ["team.w", "team.w.health", "team.w.cancel", "_INBOX.an%20agent.>"]}}]
}
"""


async def test_the_rights_that_the_page_names_are_enough(tmp_path: Path):
    with NatsServer(tmp_path, ROLES) as server:
        at = f"127.0.0.1:{server.port}"
        async with (
            backend(f"nats://an%20agent:x@{at}", prefix="team") as hosting,
            backend(f"nats://asker:y@{at}") as made,
        ):
            agent = await hosting.spawn_local_agent("w", "", 0, Echo())
            await made.register_endpoint("w", agent.base_url)
            assert (await made.send("c", "w", {"text": "q"}))["text"] == "q"
            assert [event["data"] async for event in made.stream("c", "w", {"text": "q"}) if "data" in event] == ["q"]
            assert await made.health_check("w")


GREETING = b'INFO {"auth_required": true, "headers": true, "max_payload": 1000}\r\n'


@pytest.mark.parametrize("configured", ["nats://me:s3cret@127.0.0.1:1", "nats://s3cret@localhost:{port}", "tls://me:s3cret@127.0.0.1:{port}"])  # fmt: skip
async def test_credentials_go_to_the_configured_server_only(configured: str):
    async with pretender(GREETING) as (port, told), backend(configured.format(port=port)) as made:
        await made.register_endpoint("w", f"nats://127.0.0.1:{port}/w")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await made.send("c", "w", {"text": "q"})
        await made.close()
    assert b"CONNECT" in told[0]
    assert b"s3cret" not in b"".join(told)


async def test_a_configured_server_is_shown_them(tmp_path: Path):
    async with pretender(GREETING) as (port, told), backend(f"nats://me:s3cret@127.0.0.1:{port}") as made:
        await made.register_endpoint("w", f"nats://127.0.0.1:{port}/w")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await made.send("c", "w", {"text": "q"})
        await made.close()
    assert b"s3cret" in b"".join(told)


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    openssl = shutil.which("openssl")
    assert openssl is not None
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip
    return directory / "cert.pem", directory / "key.pem"


@pytest.fixture
def secure_server(tmp_path: Path, certificate: tuple[Path, Path]):
    cert, key = certificate
    with NatsServer(tmp_path, f'tls {{cert_file: "{cert}", key_file: "{key}"}}') as server:
        yield server


async def test_over_tls_with_a_certificate_that_is_trusted(
    secure_server: NatsServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    address = await asked(f"tls://127.0.0.1:{secure_server.port}")
    assert address.startswith(f"tls://127.0.0.1:{secure_server.port}/")


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_certificate_that_nobody_trusts_is_refused(secure_server: NatsServer, scheme: str):
    async with backend(f"{scheme}://127.0.0.1:{secure_server.port}") as made:
        with pytest.raises(ConnectError, match="the TLS certificate is not trusted") as caught:
            await made.spawn_local_agent("w", "", 0, Echo())
        assert caught.value.retryable is False


async def test_an_agents_own_context_is_used(secure_server: NatsServer, certificate: tuple[Path, Path]):
    context = ssl.create_default_context(cafile=str(certificate[0]))
    async with backend(options={"w": EndpointOptions(tls=context)}) as made:
        await made.register_endpoint("w", f"tls://127.0.0.1:{secure_server.port}/w")
        with pytest.raises(ConnectError, match="no agent listens there"):
            await made.send("c", "w", {"text": "q"})


async def test_with_tls_in_the_address_nothing_is_said_in_the_clear():
    async with pretender(GREETING) as (port, told), backend(f"tls://me:s3cret@127.0.0.1:{port}") as made:
        with pytest.raises(ConnectError, match="the TLS certificate is not trusted") as caught:
            await made.spawn_local_agent("w", "", 0, Echo())
        assert caught.value.retryable is False
    assert told == []
