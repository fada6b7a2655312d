"""What acp-sdk's client makes of the agent at an address, as JSON. It runs where that is installed."""

import asyncio
import json
import sys
from typing import Any

from acp_sdk.client import Client
from acp_sdk.models import ACPError, Message, MessageAwaitResume, MessagePart, Run

NO_RUN = "00000000-0000-4000-8000-000000000000"


async def ended(client: Client, run: Run) -> Run:
    while not run.status.is_terminal:
        await asyncio.sleep(0.01)
        run = await client.run_status(run_id=run.run_id)
    return run


async def refused(call: Any) -> Any:
    try:
        await call
    except ACPError as error:
        return [error.error.code, error.error.message]
    return None


async def stream(client: Client, text: str, agent: str) -> list[Any]:
    events = [event async for event in client.run_stream(text, agent=agent)]
    pieces = [event.part.content for event in events if event.type == "message.part"]
    return [[event.type for event in events], pieces, str(events[-1].run.output[0]) if events[-1].run.output else None]


async def session(client: Client, agent: str) -> list[Any]:
    async with client.session() as talk:
        runs = [await talk.run_sync(text, agent=agent) for text in ("one", "two")]
        refreshed = await talk.refresh_session()
        history = [[message.role, str(message)] async for message in refreshed.load_history()]
        return [len({run.session_id for run in runs} | {refreshed.id}), [str(run.output[0]) for run in runs], history]


async def refusal(url: str, agent: str) -> dict[str, Any]:
    async with Client(base_url=url, headers={"Authorization": "Bearer wrong"}) as client:
        return {"sync": await refused(client.run_sync("hello", agent=agent))}


async def everything(url: str, agent: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    async with Client(base_url=url) as client:
        await client.ping()
        told["agents"] = [[found.name, found.description] async for found in client.agents()]
        manifest = await client.agent(name=agent)
        told["manifest"] = [manifest.name, [item.name for item in manifest.metadata.capabilities or []]]
        run = await client.run_sync("hello", agent=agent)
        told["sync"] = [run.status.value, str(run.output[0]), run.output[0].role]
        whole = Message(role="user", parts=[MessagePart(content="a"), MessagePart(content="b")])
        told["parts"] = str((await client.run_sync([whole, whole], agent=agent)).output[0])
        told["stream"] = await stream(client, "tell me a story", agent)
        told["whole stream"] = await stream(client, "hello", agent)
        run = await client.run_async("hello", agent=agent)
        told["async"] = [run.status.value, str((await ended(client, run)).output[0])]
        told["events"] = [event.type async for event in client.run_events(run_id=run.run_id)]
        slow = await client.run_async("wait", agent=agent)
        cancelled = await client.run_cancel(run_id=slow.run_id)
        told["cancel"] = [cancelled.status.value, (await ended(client, slow)).status.value]
        failed = await client.run_sync("fail", agent=agent)
        told["failed"] = [failed.status.value, failed.error.code, failed.error.message]
        told["failed stream"] = await stream(client, "fail", agent)
        told["session"] = await session(client, agent)
        resume = MessageAwaitResume(message=whole)
        told["resume"] = await refused(client.run_resume_sync(resume, run_id=run.run_id))
        told["nobody"] = await refused(client.run_sync("hello", agent="nobody"))
        told["no run"] = await refused(client.run_status(run_id=NO_RUN))
    return told


wanted = {"everything": everything, "refusal": refusal}[sys.argv[1]]
print(json.dumps(asyncio.run(wanted(*sys.argv[2:]))))
