"""An MCP server by hand, which does as a test needs, and what it may say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Self

Response = bytes | Callable[[dict[str, Any]], bytes]

ASK = {
    "name": "ask",
    "inputSchema": {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]},
}


def answer(body: Any, status: str = "200 OK", *headers: str, kind: str = "application/json") -> bytes:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def result(document: Any, **envelope: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda call: answer({"jsonrpc": "2.0", "id": call.get("id"), "result": document, **envelope})


def error(code: int, status: str = "200 OK", **more: Any) -> Callable[[dict[str, Any]], bytes]:
    body = {"code": code, "message": "no", **more}
    return lambda call: answer({"jsonrpc": "2.0", "id": call.get("id"), "error": body}, status)


def events(*documents: Any, end: bool = True) -> Callable[[dict[str, Any]], bytes]:
    """A stream of events; `"ID"` in a document stands for the id of the call."""

    def respond(call: dict[str, Any]) -> bytes:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        for document in documents:
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            chunk = b"event: message\r\ndata: " + data.replace(b'"ID"', str(call["id"]).encode()) + b"\r\n\r\n"
            head += b"%x\r\n%s\r\n" % (len(chunk), chunk)
        return head + (b"0\r\n\r\n" if end else b"")

    return respond


def texts(*said: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text} for text in said], **more}


def end(*said: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "ID", "result": texts(*said)}


def progress(number: float, **more: Any) -> dict[str, Any]:
    params = {"progressToken": "ID", "progress": number, **more}
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}


DISCOVERED = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
INITIALIZED = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "peer"}}
MODERN: Mapping[str, Response] = {
    "server/discover": result(DISCOVERED),
    "tools/list": result({"tools": [ASK]}),
    "tools/call": result(texts("fine")),
}
OLDER: Mapping[str, Response] = {
    **MODERN,
    "server/discover": error(-32601),
    "initialize": result(INITIALIZED),
    "ping": result({}),
}


class Peer:
    """Answers each method as the table says, a notification with 202, and `DELETE` with 200."""

    def __init__(self, table: Mapping[str, Response] = MODERN, **more: Response) -> None:
        self.table = {**table, **{name.replace("_", "/", 1): response for name, response in more.items()}}
        self.calls: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.url = ""
        self.endless = b""
        self.sent = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/mcp"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def methods(self) -> list[str]:
        return [str(call.get("method")) for call in self.calls]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                self.heads.append(head)
                if head.startswith("DELETE"):
                    writer.write(answer(b""))
                    continue
                length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
                call = json.loads(await reader.readexactly(int(length.split(":")[1])))
                self.calls.append(call)
                response = self.table.get(call.get("method", ""), b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
                response = response if isinstance(response, bytes) else response(call)
                writer.write(response)
                await writer.drain()
                while self.endless and call.get("method") == "tools/call":
                    writer.write(self.endless)
                    await writer.drain()
                    self.sent += len(self.endless)
                if b"chunked" in response and not response.endswith(b"0\r\n\r\n"):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
