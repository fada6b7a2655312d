# script/streaming_queue/protocol_backend/toy/comm.py, written after the guide's 3.1: one JSON object a line over TCP.
from __future__ import annotations
import asyncio, json
from typing import Any, Dict, Optional
from urllib.parse import urlsplit
from ...comm.base import BaseCommBackend

class ToyCommBackend(BaseCommBackend):
    def __init__(self, **kwargs):
        self._endpoints: Dict[str, str] = {}
        self._servers = []

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        self._endpoints[agent_id] = address

    async def connect(self, src_id: str, dst_id: str) -> None:
        return

    async def send(self, src_id: str, dst_id: str, payload: Dict[str, Any]) -> Any:
        endpoint = self._endpoints.get(dst_id)
        if not endpoint:
            raise RuntimeError(f"unknown dst_id={dst_id}")
        proto_msg = self._to_proto_message(payload)
        raw = await self._do_request(endpoint, proto_msg)
        text = self._extract_text(raw)
        return {"raw": raw, "text": text}

    async def health_check(self, agent_id: str) -> bool:
        endpoint = self._endpoints.get(agent_id)
        if not endpoint:
            return False
        try:
            return await self._probe(endpoint)
        except Exception:
            return False

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        return

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> Any:
        async def serve(reader, writer):
            try:
                message = json.loads(await reader.readline())
                if message["type"] == "ping":
                    reply = {"text": "pong"}
                else:
                    context, events = ToyContext(message["data"]), ToyEvents()
                    await executor.execute(context, events)
                    reply = {"text": events.texts[-1]}
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
            finally:
                writer.close()
        server = await asyncio.start_server(serve, host, port)
        self._servers.append(server)
        return ToyHandle(agent_id, f"http://{host}:{server.sockets[0].getsockname()[1]}", server)

    # ----- helpers -----
    def _to_proto_message(self, payload: Dict[str, Any]) -> Any:
        if "text" in payload:
            return {"type": "text", "data": payload["text"]}
        if "parts" in payload:
            return {"parts": payload["parts"]}
        return {"type": "text", "data": str(payload)}

    async def _do_request(self, endpoint: str, proto_msg: Any) -> Any:
        address = urlsplit(endpoint)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(json.dumps(proto_msg).encode() + b"\n")
            await writer.drain()
            return json.loads(await reader.readline())
        finally:
            writer.close()

    async def _probe(self, endpoint: str) -> bool:
        return (await self._do_request(endpoint, {"type": "ping"}))["text"] == "pong"

    def _extract_text(self, raw: Any) -> str:
        return getattr(raw, "text", "") or raw.get("text", "") or ""


class ToyContext:
    def __init__(self, text):
        self._text = text

    def get_user_input(self):
        return self._text


class ToyEvents:
    def __init__(self):
        self.texts = []

    async def enqueue_event(self, event):
        assert event["type"] == "agent_text_message"
        self.texts.append(event["data"])


class ToyHandle:
    def __init__(self, agent_id, base_url, server):
        self.agent_id, self.base_url, self._server = agent_id, base_url, server

    async def stop(self):
        self._server.close()
