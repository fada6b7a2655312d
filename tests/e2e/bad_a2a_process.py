"""An A2A agent that does not stream right, ends its tasks wrong or shows a bad card: `bad_a2a_process.py KIND`.

Prints its address when ready. A card that goes bad `later` does so with the first message, which gets no answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiohttp import web

KIND, LATER = sys.argv[1].removesuffix(" later"), sys.argv[1].endswith(" later")


class Agent:
    def __init__(self) -> None:
        self.url = ""
        self.asked = False

    def card_document(self) -> dict[str, Any]:
        interface = {"url": f"{self.url}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        return {"name": "bad", "capabilities": {"streaming": True}, "supportedInterfaces": [interface]}

    async def card(self, request: web.Request) -> web.StreamResponse:
        document = self.card_document()
        [interface] = document["supportedInterfaces"]
        if not KIND.startswith("card") or (LATER and not self.asked):
            return web.json_response(document)
        if KIND == "card html":
            return web.Response(text="<html><body>Login</body></html>", content_type="text/html")
        if KIND == "card 404":
            return web.Response(status=404, text="not here")
        if KIND == "card 50 MB":
            return web.Response(body=b" " * 50_000_000, content_type="application/json")
        if KIND == "card elsewhere":
            interface["url"] = "http://127.0.0.2:9/rpc"
        elif KIND == "card unusable":
            interface["protocolBinding"] = "GRPC"
        elif KIND == "card version":
            interface["protocolVersion"] = "2.0"
        return web.json_response(document)

    async def rpc(self, request: web.Request) -> web.StreamResponse:
        call = await request.json()
        self.asked = True
        if call["method"] == "CancelTask":
            return web.json_response({"jsonrpc": "2.0", "id": call["id"], "result": task("CANCELED")})
        if KIND == "version":
            error = {"code": -32009, "message": "version 1.0 is not supported"}
            return web.json_response({"jsonrpc": "2.0", "id": call["id"], "error": error})
        if LATER:
            return web.Response(text="<html>moved</html>", content_type="text/html")
        stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await stream.prepare(request)
        for result in RESULTS.get(KIND, [AT_WORK, status(KIND)]):
            event = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result})
            await stream.write(f"data: {event}\n\n".encode())
        if KIND == "never ends":
            await asyncio.Event().wait()
        elif KIND == "breaks off":
            assert request.transport is not None
            request.transport.abort()
        return stream


def task(state: str) -> dict[str, Any]:
    said = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "the made-up reason"}]}
    status: dict[str, Any] = {"state": f"TASK_STATE_{state}"}
    if state not in ("WORKING", "COMPLETED"):
        status["message"] = said
    return {"id": "t", "contextId": "c", "status": status}


def status(state: str) -> dict[str, Any]:
    return {"statusUpdate": {"taskId": "t", "contextId": "c", "status": task(state)["status"]}}


def piece(text: str, *, append: bool) -> dict[str, Any]:
    artifact = {"artifactId": "a", "parts": [{"text": text}]}
    return {"artifactUpdate": {"taskId": "t", "contextId": "c", "artifact": artifact, "append": append}}


AT_WORK = {"task": task("WORKING")}
RESULTS: dict[str, list[dict[str, Any]]] = {
    "ends early": [],
    "never ends": [AT_WORK],
    "breaks off": [],
    "repeats": [AT_WORK, piece("ever ", append=False), piece("so good", append=True)] * 3 + [status("COMPLETED")] * 3,
}


async def main() -> None:
    agent = Agent()
    app = web.Application()
    app.add_routes([web.get("/.well-known/agent-card.json", agent.card), web.post("/rpc", agent.rpc)])
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    agent.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    print(agent.url, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
