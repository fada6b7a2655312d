"""A peer that answers `/health` well and `/message` badly: `bad_worker_process.py KIND`; prints its address."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

KIND = sys.argv[1]


async def health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok", "agent_id": "bad"})


async def message(request: web.Request) -> web.StreamResponse:
    await request.read()
    if KIND.isdigit():
        return web.Response(status=int(KIND), headers={"Retry-After": "1"}, text="not now")
    if KIND == "garbage":
        return web.Response(body=b"\x00\x01not json", content_type="application/json")
    if KIND == "empty":
        return web.Response(body=b"")
    if KIND == "empty text":
        return web.json_response({"text": ""})
    if KIND == "html":
        return web.Response(text="<html><body>Login</body></html>", content_type="text/html")
    if KIND == "50 MB":
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"text": "')
        for _ in range(50):
            await response.write(b"x" * 1_000_000)
        await response.write(b'"}')
        return response
    if KIND == "never":
        await asyncio.Event().wait()
    raise ValueError(KIND)


async def main() -> None:
    app = web.Application()
    app.add_routes([web.get("/health", health), web.post("/message", message)])
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
