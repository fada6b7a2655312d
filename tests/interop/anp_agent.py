"""An agent whose callers the `anp` package verifies, served by starlette; nothing of ours.

It prints its address. Callers' DID documents are fetched as the package does it: over HTTPS (SSL_CERT_FILE).
"""

from __future__ import annotations

import asyncio
import json
import socket

import uvicorn
from anp.authentication import DidWbaVerifier, DidWbaVerifierConfig, DidWbaVerifierError
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

METHOD = {
    "name": "shout",
    "params": [{"name": "words", "schema": {"type": "string"}, "required": True}],
    "result": {"name": "result", "schema": {"type": "object"}},
}


def verifier() -> DidWbaVerifier:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return DidWbaVerifier(DidWbaVerifierConfig(jwt_private_key=private, jwt_public_key=public))


def application(schemes: list[str]) -> Starlette:
    checks = verifier()

    async def description(request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        interface = {"type": "StructuredInterface", "protocol": "openrpc", "url": f"{base}/interface.json"}
        return JSONResponse({"protocolType": "ANP", "name": "theirs", "interfaces": [interface]})

    async def interface(request: Request) -> Response:
        servers = [{"url": f"{str(request.base_url).rstrip('/')}/rpc"}]
        return JSONResponse({"openrpc": "1.3.2", "methods": [METHOD], "servers": servers})

    async def call(request: Request) -> Response:
        body = await request.body()
        try:
            known = await checks.verify_request("POST", str(request.url), dict(request.headers), body)
        except DidWbaVerifierError as error:
            return JSONResponse({"detail": str(error)}, error.status_code, headers=error.headers)
        schemes.append(known["auth_scheme"])
        asked = json.loads(body)
        answer = {"answer": asked["params"]["words"].upper(), "caller": known["did"], "schemes": schemes}
        response = {"jsonrpc": "2.0", "id": asked["id"], "result": answer}
        return JSONResponse(response, headers=known["response_headers"])

    routes = [Route("/ad.json", description), Route("/interface.json", interface)]
    return Starlette(routes=[*routes, Route("/rpc", call, methods=["POST"])])


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application([]), log_level="error"))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
