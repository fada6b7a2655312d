"""An A2A agent by hand, which does as a test needs, and what it may say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Self

from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
from streaming_queue.protocol_backend.a2a.dialect import CALL_EXTENSION

ResponseFor = Callable[[dict[str, Any]], bytes]


class Peer:
    """A server by hand: a card, and for each call what `respond(call)` gives; then it may close or reset."""

    def __init__(
        self, respond: ResponseFor | None = None, *, card: Any = None, raw_card: bytes = b"", **more: Any
    ) -> None:
        self.respond = respond
        self.card = card
        self.raw_card = raw_card
        self.streaming = more.pop("streaming", True)
        self.extension = more.pop("extension", False)
        self.end = more.pop("end", "keep")
        self.versions = more.pop("versions", [("JSONRPC", "1.0")])
        assert not more
        self.calls: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def methods(self) -> list[str]:
        return [call["method"] for call in self.calls]

    def _card(self) -> bytes:
        if self.raw_card:
            return self.raw_card
        card = self.card or {
            "name": "peer",
            "capabilities": {
                "streaming": self.streaming,
                "extensions": [{"uri": CALL_EXTENSION}] if self.extension else [],
            },
            "supportedInterfaces": [
                {"url": f"{self.url}/", "protocolBinding": binding, "protocolVersion": version}
                for binding, version in self.versions
            ],
        }
        return answer(card)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                self.heads.append(head)
                if head.startswith("GET /.well-known"):
                    writer.write(self._card())
                    await writer.drain()
                    continue
                length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
                call = json.loads(await reader.readexactly(int(length.split(":")[1])))
                self.calls.append(call)
                assert self.respond is not None
                response = self.respond(call)
                writer.write(response)
                await writer.drain()
                if self.end == "reset" or not response:
                    await asyncio.sleep(0.02)
                    writer.transport.abort()
                    return
                if b"chunked" in response and not response.endswith(b"0\r\n\r\n"):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


def answer(body: Any, status: str = "200 OK", *headers: str) -> bytes:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def result(call: dict[str, Any], document: Any) -> bytes:
    return answer({"jsonrpc": "2.0", "id": call["id"], "result": document})


def events(call: dict[str, Any], *documents: Any, end: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    for document in documents:
        data = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": document}).encode()
        chunk = b": hello\n\ndata: " + data + b"\r\n\r\n"
        head += b"%x\r\n%s\r\n" % (len(chunk), chunk)
    return head + (b"0\r\n\r\n" if end else b"")


def message(text: str) -> dict[str, Any]:
    return {"message": {"messageId": "r", "role": "ROLE_AGENT", "parts": [{"text": text}]}}


def task(state: str = "WORKING", text: str | None = None, task_id: str = "t", said: str = "") -> dict[str, Any]:
    status: dict[str, Any] = {"state": f"TASK_STATE_{state}"}
    if said:
        status["message"] = message(said)["message"]
    document = {"id": task_id, "contextId": "c", "status": status}
    if text is not None:
        document["artifacts"] = [{"artifactId": "a", "parts": [{"text": text}]}]
    return document


def status(state: str, said: str = "") -> dict[str, Any]:
    return {"statusUpdate": {"taskId": "t", "contextId": "c", "status": task(state, said=said)["status"]}}


def piece(text: str, *, append: bool = False) -> dict[str, Any]:
    artifact = {"artifactId": "a", "parts": [{"text": text}]}
    return {"artifactUpdate": {"taskId": "t", "contextId": "c", "artifact": artifact, "append": append}}


async def send(backend: A2ACommBackend, url: str, text: str = "q", **metadata: Any) -> Any:
    await backend.register_endpoint("w", url)
    async with asyncio.timeout(5):
        return await backend.send("c", "w", {"text": text, "metadata": metadata})


async def stream(backend: A2ACommBackend, url: str, **metadata: Any) -> list[Any]:
    await backend.register_endpoint("w", url)
    async with asyncio.timeout(5):
        return [event async for event in backend.stream("c", "w", {"text": "q", "metadata": metadata})]
