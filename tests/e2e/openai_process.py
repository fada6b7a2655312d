"""An OpenAI-compatible server; prints its base URL. It knows `right-key`, and `empty-key` without quota.

python openai_process.py [port] [seconds to an answer] [log of what was asked and answered]
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from pathlib import Path

from aiohttp import web

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 0
PAUSE_S = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
LOG = Path(sys.argv[3]) if len(sys.argv) > 3 else None
numbers = itertools.count(1)


def note(what: str, question: str, answer: str | None = None) -> None:
    if LOG:
        with LOG.open("a") as log:
            log.write(json.dumps([what, question, answer]) + "\n")


def refusal(request: web.Request) -> web.Response | None:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if given == "right-key":
        return None
    if given == "empty-key":
        error = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}
        return web.json_response(error, status=429)
    message = f"Incorrect API key provided: {given[:6]}***{given[-3:]}."
    error = {"error": {"message": message, "code": "invalid_api_key", "type": "auth"}}
    return web.json_response(error, status=401)


async def models(request: web.Request) -> web.StreamResponse:
    listed = {"object": "list", "data": [{"id": "test-model", "object": "model"}]}
    return refusal(request) or web.json_response(listed)


async def complete(request: web.Request) -> web.StreamResponse:
    if refused := refusal(request):
        return refused
    asked = await request.json()
    question = asked["messages"][-1]["content"]
    texts = ("The answer to ", question, f" is {next(numbers)}." if LOG else " is 42.")
    note("asked", question)
    await asyncio.sleep(PAUSE_S)
    note("answered", question, "".join(texts))
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for text in texts:
        chunk = {
            "id": "x",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": asked["model"],
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
        }
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
    if "max_tokens" in asked:
        cut = [{"index": 0, "delta": {}, "finish_reason": "length"}]
        await response.write(f"data: {json.dumps({**chunk, 'choices': cut})}\n\n".encode())
    usage = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
    end = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": asked["model"], "choices": []}
    await response.write(f"data: {json.dumps(end | {'usage': usage})}\n\ndata: [DONE]\n\n".encode())
    return response


async def main() -> None:
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", complete), web.get("/v1/models", models)])
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORT).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
