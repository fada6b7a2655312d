"""google-adk asks an agent in one session: `adk_client.py URL TEXT...` prints what the session holds of each answer."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from google.adk.agents.remote_a2a_agent import RemoteA2aAgent
from google.adk.runners import InMemoryRunner
from google.genai.types import Content, Part


async def main(url: str, *texts: str) -> None:
    runner = InMemoryRunner(RemoteA2aAgent("w", f"{url}/.well-known/agent-card.json"), app_name="a")
    sessions = runner.session_service
    key = {"app_name": "a", "user_id": "u", "session_id": "s"}
    await sessions.create_session(**key)
    held: dict[str, list[str]] = {}
    seen = 0
    for text in texts:
        question = Content(role="user", parts=[Part(text=text)])
        async for _ in runner.run_async(user_id="u", session_id="s", new_message=question):
            pass
        session = await sessions.get_session(**key)
        assert session is not None
        fresh, seen = session.events[seen:], len(session.events)
        parts = [part for event in fresh if event.author == "w" and event.content for part in event.content.parts or ()]
        held[text] = [part.text or "" for part in parts if not part.thought]
    print(json.dumps(held))


if __name__ == "__main__":
    logging.disable()
    asyncio.run(main(*sys.argv[1:]))
