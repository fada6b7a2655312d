"""The floor: a bare aiohttp client and a bare starlette endpoint that carry the same JSON in JSON, and nothing else."""

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

DOCUMENT = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="


async def answer(request: Request) -> Response:
    question = orjson.loads(orjson.loads(await request.body())["body"])
    body = orjson.dumps({"answer": f"[raw] {question['text']}"}).decode()
    return Response(orjson.dumps({"status": "success", "body": body}), media_type="application/json")


def serve() -> None:
    """Serve on a free port; the address is printed once it accepts connections."""

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets=sockets)
            print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)

    app = Starlette(routes=[Route("/", answer, methods=["POST"])])
    Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False, http="httptools")).run()


async def ask_all(addresses: Sequence[str], questions: Sequence[str], in_flight: int) -> None:
    """Ask every question once, `in_flight` at a time, workers in turn."""
    todo = iter(enumerate(questions))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def slot() -> None:
            for number, question in todo:
                inner = orjson.dumps({"text": question}).decode()
                body = orjson.dumps({"protocolHash": DOCUMENT, "protocolSources": [], "body": inner})
                url = f"{addresses[number % len(addresses)]}/"
                async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
                    told = orjson.loads(await response.read())
                    assert orjson.loads(told["body"])["answer"].endswith(question)

        await asyncio.gather(*(slot() for _ in range(in_flight)))


if __name__ == "__main__":
    serve()
