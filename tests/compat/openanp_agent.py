"""An agent written with OpenANP alone, as its package shows it; prints its address. Needs `anp[api]`."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from anp.authentication import DidWbaVerifierConfig
from anp.openanp import AgentConfig, Context, anp_agent, interface
from anp.openanp.middleware import create_auth_middleware
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi import FastAPI


@anp_agent(AgentConfig(name="Hotel", did="did:wba:localhost:hotel", prefix="/hotel"))
class Hotel:
    @interface
    async def search(self, query: str, ctx: Context) -> dict:
        """Find hotels."""
        return {"answer": f"{query}: none", "caller": ctx.did}

    @interface
    async def book(self, hotel: str, nights: int) -> dict:
        """Book a hotel."""
        return {"answer": f"{hotel} for {nights}"}


async def main() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    app = FastAPI()
    app.include_router(Hotel.router())
    config = DidWbaVerifierConfig(jwt_private_key=private, jwt_public_key=public)
    app.middleware("http")(create_auth_middleware(config))
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/hotel", flush=True)
    await uvicorn.Server(uvicorn.Config(app, log_level="error")).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
