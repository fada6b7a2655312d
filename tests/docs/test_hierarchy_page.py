"""docs/hierarchy.md shows what works: its pools are pools, its executor asks its peers."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from streaming_queue.comm import registry
from streaming_queue.config import Config
from streaming_queue.core.network_base import HOP_LIMIT, NetworkBase
from streaming_queue.messages import MESSAGE

TEXT = (Path(__file__).parents[2] / "docs" / "hierarchy.md").read_text(encoding="utf-8")


def test_the_pools_shown_are_three_levels():
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    hierarchy = Config.of(yaml.safe_load(example)).network.hierarchy
    assert hierarchy.top == ("North",)
    assert hierarchy.members == {
        "North": ("Sub-1", "Sub-2"),
        "Sub-1": ("Worker-1", "Worker-2"),
        "Sub-2": ("Worker-3", "Worker-4"),
    }


async def test_the_executor_shown_merges_what_its_peers_say():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, type] = {}
    exec(f"import asyncio\n{code}", names)  # noqa: S102

    class Echo:
        async def execute(self, context, event_queue):
            await event_queue.enqueue_event({"type": MESSAGE, "data": f"{context.agent_id}!"})

    network = NetworkBase(registry.create("http"))
    for agent_id, executor in {"Worker-1": names["Merging"](), "Worker-2": Echo(), "Worker-3": Echo()}.items():
        handle = await network.comm_backend.spawn_local_agent(agent_id, "127.0.0.1", 0, executor)
        await network.register_agent(agent_id, handle.base_url)
    network.setup_mesh_topology()
    reply = await network.route_message("Runner", "Worker-1", {"text": "Who is there?"})
    assert reply["text"] == "Worker-2! Worker-3!"
    await network.close()


def test_the_limit_told_is_the_limit():
    assert HOP_LIMIT == 8
    assert "After eight hops" in TEXT
