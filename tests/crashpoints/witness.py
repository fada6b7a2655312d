"""A worker of the test's own, over `http`: python witness.py LOG REFUSE SECONDS; prints its address.

It writes to LOG what it is asked and answers, keeps no answer, and gives none twice. While the file REFUSE is there, each
third question fails. An answer takes SECONDS.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from pathlib import Path

from aiohttp import web

LOG, REFUSE, PAUSE_S = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
numbers = itertools.count(1)


def note(what: str, question: str, answer: str | None = None) -> None:
    with LOG.open("a") as log:
        log.write(json.dumps([what, question, answer]) + "\n")


async def health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok", "agent_id": "witness"})


async def message(request: web.Request) -> web.Response:
    question = (await request.json())["text"]
    note("asked", question)
    if REFUSE.exists() and int(question.split()[2]) % 3 == 0:
        return web.json_response({"text": ""})
    await asyncio.sleep(PAUSE_S)
    answer = f"answer {next(numbers)} of {LOG.stem} to {question}"
    note("answered", question, answer)
    return web.json_response({"text": answer})


async def main() -> None:
    app = web.Application()
    app.add_routes([web.get("/health", health), web.post("/message", message)])
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
