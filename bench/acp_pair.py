"""The acp backend against a bare aiohttp client and starlette endpoint that carry the same JSON.

python bench/acp_pair.py [requests] [in flight]
"""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson
import uvicorn
from pair import QUESTION, Ask, Close, Side, main, ours
from pairs.raw_acp import message, run
from starlette.applications import Starlette
from starlette.routing import Route

from streaming_queue.protocol_backend.acp.comm import AcpCommBackend


async def host(between: str) -> tuple[str, Close]:
    del between
    app = Starlette(routes=[Route("/runs", run, methods=["POST"])])
    config = uvicorn.Config(app, port=0, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    return f"http://127.0.0.1:{port}", server.shutdown


async def client(address: str) -> tuple[Ask, Close]:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
    )

    async def ask(number: int) -> Any:
        del number
        body = orjson.dumps({"agent_name": "raw", "input": [message("user", QUESTION)], "mode": "sync"})
        async with session.post(f"{address}/runs", data=body) as response:
            return orjson.loads(await response.read())

    return ask, session.close


if __name__ == "__main__":
    main({"bare": Side(host, client), "ours": ours(AcpCommBackend)}, crossed=False, in_flight=32)
