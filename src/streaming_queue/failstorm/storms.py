"""Storms over one protocol after another, and their files."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from streaming_queue.comm import registry
from streaming_queue.config import load_config
from streaming_queue.errors import BackendNotInstalledError, ConfigError
from streaming_queue.failstorm.plan import Plan
from streaming_queue.failstorm.plot import draw
from streaming_queue.failstorm.storm import Storm
from streaming_queue.failstorm.summary import Summary, sum_up
from streaming_queue.runner.serving import can_be_served
from streaming_queue.telemetry.console import Output


async def run_storms(protocols: Sequence[str], plan: Plan, directory: Path | None, output: Output) -> list[Summary]:
    """Run a storm for each protocol (none named: for each installed one that has a socket), one after the other.

    `directory` (None: a new one under runs/) gets the plot NAME.svg, the record NAME.json, the run and its log.

    Raises:
        ConfigError: the directory holds something, or a protocol cannot be hit.
        KeyboardInterrupt, SystemExit: SIGINT, SIGTERM.
    """
    wanted = [protocol for protocol in protocols if await _has_a_socket(protocol)] or await _installed()
    if refused := [protocol for protocol in protocols if protocol not in wanted]:
        raise ConfigError(f"protocol {refused[0]!r} has no socket, so no process can be hit: name another protocol")
    folder = await asyncio.to_thread(_folder, directory)
    output.system(f"{plan}; {', '.join(wanted)}; into {folder}")
    summaries = []
    for protocol in wanted:
        name = re.sub(r"[^A-Za-z0-9_.-]+", ".", protocol).strip(".")
        timeline, ledger = await Storm(protocol, name, plan, folder, output).run()
        summary = sum_up(protocol, plan.fault, timeline, ledger)
        record = {"plan": str(plan), "summary": summary.entry(), **timeline.record()}
        await asyncio.to_thread((folder / f"{name}.json").write_text, json.dumps(record), encoding="utf-8")
        picture = draw(timeline, f"{protocol}: {plan}")
        await asyncio.to_thread((folder / f"{name}.svg").write_text, picture, encoding="utf-8")
        output.success(f"{protocol}: {folder / name}.svg")
        summaries.append(summary)
    return summaries


async def _installed() -> list[str]:
    found = []
    for name in await asyncio.to_thread(registry.known):
        try:
            if await _has_a_socket(name):
                found.append(name)
        except BackendNotInstalledError:
            continue
    return found


async def _has_a_socket(protocol: str) -> bool:
    return await can_be_served(load_config(flags={"protocol": protocol, "core.type": "mock"}, environ={}))


def _folder(wanted: Path | None) -> Path:
    folder = wanted or Path("runs") / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-failstorm"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty: choose another -o")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}; choose another -o") from error
    return folder
