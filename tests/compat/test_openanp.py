"""OpenANP, the `anp` package's framework, in an environment of its own: its agent and its client, and ours."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from compat.conftest import environment
from unit.comm.agents import Echo
from unit.protocol_backend.anp.publisher import certificate, publisher, server_context

from streaming_queue.errors import AuthError, ConfigError
from streaming_queue.protocol_backend.anp.comm import AnpCommBackend
from streaming_queue.protocol_backend.anp.identity import Identity

pytestmark = pytest.mark.timeout(600)

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def python() -> str:
    return str(environment("openanp", "anp[api]==1.0.7") / "python")


async def test_its_client_asks_our_agent(python: str, tmp_path: Path):
    for name in ("caller", "stranger"):
        await asyncio.to_thread(Identity.create(name).save, tmp_path / name)
    backend = AnpCommBackend(trusted=[str(tmp_path / "caller")])

    async def ask(name: str) -> tuple[str, str]:
        script = str(HERE / "openanp_client.py")
        process = await asyncio.create_subprocess_exec(
            python, script, handle.base_url, str(tmp_path / name), "hello",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return out.decode(), err.decode()

    try:
        handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())
        told = json.loads((await ask("caller"))[0])
        out, err = await ask("stranger")
    finally:
        await backend.close()
    assert (told["methods"], told["answer"]) == (["ask", "cancel"], {"text": "hello"})
    assert told["tools"][0]["function"]["parameters"]["properties"]["text"]["type"] == "string"
    assert out == ""
    assert "401" in err


async def test_our_client_asks_its_agent(python: str, tmp_path: Path):
    path = certificate(tmp_path)
    async with publisher(server_context(path), documents := {}) as (port, _):
        us = Identity.create("us", port=port)
        documents[us.path] = dict(us.document)
        await asyncio.to_thread(us.save, tmp_path / "us")
        process = await asyncio.create_subprocess_exec(
            python, str(HERE / "openanp_agent.py"),
            env={**os.environ, "SSL_CERT_FILE": str(path)}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        known, unknown = AnpCommBackend(identity=str(tmp_path / "us")), AnpCommBackend()
        choosing = AnpCommBackend(identity=str(tmp_path / "us"), method="book")
        try:
            url = (await process.stdout.readline()).decode().strip()
            for backend in (known, unknown, choosing):
                await backend.register_endpoint("w", url)
            assert await known.health_check("w")
            for number in range(3):
                reply = await known.send("c", "w", {"text": f"Tokyo {number}"})
                assert (reply["text"], reply["raw"]["caller"]) == (f"Tokyo {number}: none", us.did)
            with pytest.raises(AuthError, match="401"):
                await unknown.send("c", "w", {"text": "Tokyo"})
            with pytest.raises(ConfigError, match="'book'"):
                await choosing.send("c", "w", {"text": "Tokyo"})
        finally:
            await asyncio.gather(known.close(), unknown.close(), choosing.close())
            process.kill()
            await process.wait()
