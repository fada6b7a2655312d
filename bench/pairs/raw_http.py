"""The floor: a bare aiohttp client and a bare starlette endpoint that carry the same JSON, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def answer(request: Request) -> Response:
    question = orjson.loads(await request.body())
    return Response(orjson.dumps({"text": f"[raw] {question['text']}"}), media_type="application/json")


def serve() -> None:
    """Serve on a free port; the address is printed once it accepts connections."""

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets=sockets)
            print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)

    app = Starlette(routes=[Route("/message", answer, methods=["POST"])])
    Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False, http="httptools")).run()


async def ask_all(addresses: Sequence[str], questions: Sequence[str], in_flight: int) -> None:
    """Ask every question once, `in_flight` at a time, workers in turn."""
    todo = iter(enumerate(questions))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def slot() -> None:
            for number, question in todo:
                url = f"{addresses[number % len(addresses)]}/message"
                body = orjson.dumps({"text": question})
                async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
                    assert orjson.loads(await response.read())["text"].endswith(question)

        await asyncio.gather(*(slot() for _ in range(in_flight)))


if __name__ == "__main__":
    serve()
