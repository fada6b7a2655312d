"""The floor: a bare aiohttp client and a bare starlette endpoint that carry the same JSON of ACP, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"content_type": "text/plain", "content": text, "content_encoding": "plain"}]}


async def run(request: Request) -> Response:
    asked = orjson.loads(await request.body())
    [part] = asked["input"][0]["parts"]
    run_id, now = str(uuid4()), datetime.now(UTC)
    document = {
        "run_id": run_id,
        "agent_name": asked["agent_name"],
        "session_id": None,
        "status": "completed",
        "await_request": None,
        "output": [message("agent/raw", f"[raw] {part['content']}")],
        "error": None,
        "created_at": now,
        "finished_at": now,
    }
    return Response(orjson.dumps(document), media_type="application/json", headers={"Run-ID": run_id})


def serve() -> None:
    """Serve on a free port; the address is printed once it accepts connections."""

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets=sockets)
            print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)

    app = Starlette(routes=[Route("/runs", run, methods=["POST"])])
    Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False, http="httptools")).run()


async def ask_all(addresses: Sequence[str], questions: Sequence[str], in_flight: int) -> None:
    """Ask every question once, `in_flight` at a time, workers in turn."""
    todo = iter(enumerate(questions))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def slot() -> None:
            for number, question in todo:
                url = f"{addresses[number % len(addresses)]}/runs"
                body = orjson.dumps({"agent_name": "raw", "input": [message("user", question)], "mode": "sync"})
                async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
                    answer = orjson.loads(await response.read())
                    assert answer["output"][0]["parts"][0]["content"].endswith(question)

        await asyncio.gather(*(slot() for _ in range(in_flight)))


if __name__ == "__main__":
    serve()
