"""strands asks an agent: `strands_client.py URL TEXT...` prints the texts of each result."""

from __future__ import annotations

import asyncio
import json
import sys

from strands.agent.a2a_agent import A2AAgent


async def main(url: str, *texts: str) -> None:
    agent = A2AAgent(url)
    results = {text: await agent.invoke_async(text) for text in texts}
    print(json.dumps({text: [block["text"] for block in told.message["content"]] for text, told in results.items()}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
