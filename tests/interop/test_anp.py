"""The `anp` package's client against our host, and our client against a host of the package's parts."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from anp import ANPClient
from unit.comm.agents import Agent, message
from unit.protocol_backend.anp.publisher import certificate, publisher, server_context

from streaming_queue.errors import AuthError, RateLimitedError
from streaming_queue.protocol_backend.anp.comm import AnpCommBackend
from streaming_queue.protocol_backend.anp.identity import Identity

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest.fixture
async def backend() -> AsyncIterator[Callable[..., AnpCommBackend]]:
    made: list[AnpCommBackend] = []

    def make(**options: Any) -> AnpCommBackend:
        made.append(AnpCommBackend(**options))
        return made[-1]

    yield make
    for each in made:
        await each.close()


# --- their client, our host ---


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str], tuple[str, str]]:
    """Identities of ours, in files as the package's client takes them."""
    for name in ("caller", "stranger"):
        Identity.create(name).save(tmp_path / name)
    return lambda name: (str(tmp_path / name / "did.json"), str(tmp_path / name / "key.pem"))


@pytest.fixture
async def hosted(backend: Any, files: Any) -> tuple[str, list[str]]:
    """The address of an agent of ours that trusts `caller`, and who asked."""
    asked: list[str] = []

    async def behave(context: Any, queue: Any) -> None:
        asked.append(context.principal)
        if context.get_user_input() == "fail":
            raise RateLimitedError("slow down", retry_after_s=2.5)
        await queue.enqueue_event(message(context.get_user_input()[::-1], metadata={"llm_ms": 1.5}))

    handle = await backend(trusted=[files("caller")[0]]).spawn_local_agent("w", "127.0.0.1", 0, Agent(behave))
    return handle.base_url, asked


async def test_their_client_reads_our_documents_and_asks(hosted: Any, files: Any):
    url, asked = hosted
    client = ANPClient(*files("caller"))
    description = (await client.fetch(f"{url}/ad.json"))["data"]
    interface = (await client.fetch(description["interfaces"][0]["url"]))["data"]
    server = interface["servers"][0]["url"]
    told = await client.call_jsonrpc(server, interface["methods"][0]["name"], {"text": "olleh"})
    assert told["result"] == {"text": "hello", "metadata": {"llm_ms": 1.5}}
    told = await client.call_jsonrpc(server, "ask", {"text": "fail"})
    assert (told["success"], told["error"]["message"]) == (False, "slow down")
    assert (told["error"]["data"]["code"], told["error"]["data"]["retry_after_s"]) == ("rate_limited", 2.5)
    assert len(set(asked)) == 1
    assert asked[0].startswith("did:wba:localhost:caller:e1_")


async def test_their_client_signs_once_and_shows_the_token_then(hosted: Any, files: Any):
    url, _ = hosted
    client = ANPClient(*files("caller"))
    for _ in range(3):
        told = await client.call_jsonrpc(f"{url}/rpc", "ask", {"text": "olleh"})
        assert (told["success"], told["result"]["text"]) == (True, "hello")
    assert list(client.auth_client.tokens) == ["127.0.0.1"]
    client.auth_client.tokens["127.0.0.1"] = "not.a.token"  # it signs anew when a token is refused
    assert (await client.call_jsonrpc(f"{url}/rpc", "ask", {"text": "olleh"}))["result"]["text"] == "hello"


async def test_their_client_with_an_identity_that_is_not_trusted(hosted: Any, files: Any):
    url, asked = hosted
    told = await ANPClient(*files("stranger")).call_jsonrpc(f"{url}/rpc", "ask", {"text": "olleh"})
    assert told["success"] is False
    assert "401" in told["error"]["message"]
    assert asked == []


# --- our client, their host ---


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Path, Any]:
    path = certificate(tmp_path)
    return path, server_context(path)


async def test_our_client_at_an_agent_of_their_parts(backend: Any, tls: Any, tmp_path: Path):
    """The verifier is the package's, and fetches our DID document over HTTPS from where our DID says."""
    path, context = tls
    async with publisher(context, documents := {}) as (port, fetched):
        identity = Identity.create("us", port=port)
        await asyncio.to_thread(identity.save, tmp_path / "us")
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("anp_agent.py")),
            env={**os.environ, "SSL_CERT_FILE": str(path)}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            url = (await process.stdout.readline()).decode().strip()
            made = backend(identity=str(tmp_path / "us"))
            await made.register_endpoint("w", url)
            assert await made.health_check("w")
            with pytest.raises(AuthError, match="401"):  # nobody serves our document yet
                await made.send("c", "w", {"text": "hello"})
            documents[identity.path] = dict(identity.document)
            replies = [await made.send("c", "w", {"text": f"hello {number}"}) for number in range(3)]
        finally:
            process.kill()
            await process.wait()
    assert [reply["text"] for reply in replies] == ["HELLO 0", "HELLO 1", "HELLO 2"]
    assert {reply["raw"]["caller"] for reply in replies} == {identity.did}
    assert replies[-1]["raw"]["schemes"] == ["http_signatures", "bearer", "bearer"]
    assert fetched == [identity.path] * 2
