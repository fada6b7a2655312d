"""The `anp` package at both ends, as it comes: its client, its verifier on a bare starlette endpoint, and no more.

The verifier fetches documents over HTTPS; here the client leaves its own with each server before it asks.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from anp import ANPClient
from anp.authentication import DidWbaVerifier, DidWbaVerifierConfig, create_did_wba_document, did_wba_verifier
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

documents: dict[str, Any] = {}


async def resolve(did: str) -> Any:
    return documents.get(did)


def verifier() -> DidWbaVerifier:
    did_wba_verifier.resolve_did_wba_document = resolve
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return DidWbaVerifier(DidWbaVerifierConfig(jwt_private_key=private, jwt_public_key=public))


def serve() -> None:
    """Serve on a free port; the address is printed once it accepts connections."""
    checks = verifier()

    async def keep(request: Request) -> Response:
        document = await request.json()
        documents[document["id"]] = document
        return Response()

    async def answer(request: Request) -> Response:
        body = await request.body()
        known = await checks.verify_request("POST", str(request.url), dict(request.headers), body)
        call = json.loads(body)
        response = {"jsonrpc": "2.0", "id": call["id"], "result": {"text": f"[raw] {call['params']['text']}"}}
        return JSONResponse(response, headers=known["response_headers"])

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets=sockets)
            print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)

    app = Starlette(routes=[Route("/document", keep, methods=["POST"]), Route("/rpc", answer, methods=["POST"])])
    Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False, http="httptools")).run()


async def ask_all(addresses: Sequence[str], questions: Sequence[str], in_flight: int) -> None:
    """Ask every question once, `in_flight` at a time, workers in turn; a client each: tokens are kept by host name."""
    todo = iter(enumerate(questions))
    document, keys = create_did_wba_document("localhost", path_segments=["raw"], enable_e2ee=False)
    async with aiohttp.ClientSession() as session:
        for address in addresses:
            async with session.post(f"{address}/document", json=document) as response:
                assert response.status == 200
    with tempfile.TemporaryDirectory() as folder:
        did_file, key_file = Path(folder, "did.json"), Path(folder, "key.pem")
        did_file.write_text(json.dumps(document))
        key_file.write_bytes(keys["key-1"][0])
        clients = [ANPClient(str(did_file), str(key_file)) for _ in addresses]

        async def slot() -> None:
            for number, question in todo:
                which = number % len(addresses)
                told = await clients[which].call_jsonrpc(f"{addresses[which]}/rpc", "ask", {"text": question})
                assert told["result"]["text"].endswith(question)

        await asyncio.gather(*(slot() for _ in range(in_flight)))


if __name__ == "__main__":
    serve()
