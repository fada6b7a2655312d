"""OpenANP's own client asks an agent: `openanp_client.py URL DIRECTORY TEXT` prints its methods and its answer."""

from __future__ import annotations

import asyncio
import json
import sys

from anp.authentication import DIDWbaAuthHeader
from anp.openanp import RemoteAgent


async def main(url: str, directory: str, text: str) -> None:
    auth = DIDWbaAuthHeader(f"{directory}/did.json", f"{directory}/key.pem")
    agent = await RemoteAgent.discover(f"{url}/ad.json", auth)
    print(json.dumps({"methods": agent.method_names, "tools": agent.tools, "answer": await agent.ask(text=text)}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
