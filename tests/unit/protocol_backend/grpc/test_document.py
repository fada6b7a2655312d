from __future__ import annotations

import asyncio
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from unit.comm.agents import Echo

from streaming_queue.comm.context import HEADER_BY_KEY
from streaming_queue.errors import ProtocolError, RemoteError
from streaming_queue.protocol_backend.grpc.comm import GrpcCommBackend
from streaming_queue.protocol_backend.grpc.statuses import FOREIGN, STATUS_BY_CODE

DOCUMENT = Path(__file__).parents[4] / "docs" / "protocols" / "grpc.md"

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


@pytest.fixture
def script(tmp_path: Path):
    """The document's Python that begins so, as a file."""

    def script(beginning: str, port: int = 0) -> Path:
        blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
        (block,) = (block for block in blocks if block.startswith(beginning))
        path = tmp_path / "script.py"
        path.write_text(block.replace("10001", str(port)))
        return path

    return script


async def test_the_documents_worker_works(script: Any):
    path = await asyncio.to_thread(script, "import asyncio\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(path), "0", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    backend = GrpcCommBackend()
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        await backend.register_endpoint("w", f"grpc://127.0.0.1:{port}")
        assert await backend.health_check("w")
        assert (await backend.send("c", "w", {"text": "hello"}))["text"] == "HELLO"
        with pytest.raises(RemoteError, match="INVALID_ARGUMENT: plain text only") as caught:
            await backend.send("c", "w", {"parts": [{"kind": "text", "text": "x"}]})
        assert caught.value.retryable is False
    finally:
        await backend.close()
        process.kill()
        await process.wait()


async def test_the_documents_client_works(spawn: Any, script: Any, capsys: pytest.CaptureFixture[str]):
    port, _ = await spawn(Echo())
    path = await asyncio.to_thread(script, "import grpc_requests", port)
    await asyncio.to_thread(runpy.run_path, str(path))
    assert capsys.readouterr().out == "What is the capital of France?\n"


async def test_the_documents_tls_works(script: Any, certificate: tuple[bytes, bytes]):
    names = await asyncio.to_thread(runpy.run_path, str(await asyncio.to_thread(script, "import grpc\n\nfrom")))
    backend = names["backend"](*certificate)
    handle = await backend.spawn_local_agent("Worker-1", "localhost", 0, Echo())
    await backend.register_endpoint("Worker-1", handle.base_url)
    assert (await backend.send("c", "Worker-1", {"text": "q"}))["text"] == "q"
    await backend.close()


def test_the_document_lists_every_status_code_and_key():
    text = DOCUMENT.read_text()
    for error, status in STATUS_BY_CODE.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{status.name}` | `"))
        assert f"`{error}`" in row, error
    raised = text.partition("| status | error |")[2].partition("\n\n")[0]
    for status, (cls, retryable) in FOREIGN.items():
        row = next(line for line in reversed(raised.splitlines()) if f"`{status.name}`" in line)
        assert f"`{cls.__name__}`" in row, status
        assert not issubclass(cls, RemoteError | ProtocolError) or ("not retried" in row) is not retryable, status
    for key in HEADER_BY_KEY.values():
        assert f"`{key}`" in text
