"""docs/protocols/mcp.md: its programs work, its messages are those on the wire, its tables are those of the code."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from unit.comm.agents import Agent, message

from streaming_queue.comm.base import HostLimits
from streaming_queue.comm.host.execution import HEARTBEAT_S
from streaming_queue.config import Config
from streaming_queue.protocol_backend.mcp import child, dialect, service, tools
from streaming_queue.protocol_backend.mcp.comm import McpCommBackend
from streaming_queue.runner.backends import create_backend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

TEXT = (Path(__file__).parents[4] / "docs" / "protocols" / "mcp.md").read_text()
PLAIN = re.sub(r"\s+", " ", TEXT)
SERVER, CLIENT = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
(COMMAND,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
CALL, ANSWER = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
async def backend():
    backend = McpCommBackend()
    yield backend
    await backend.close()


async def _capital(context: Any, queue: Any) -> None:
    await queue.enqueue_event(message("Paris."))


async def test_the_documents_server_and_command_work(tmp_path: Path):
    (tmp_path / "server.py").write_text(SERVER)
    for name, command in (("python", ""), ("stq", " -m streaming_queue.cli")):
        (tmp_path / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{command} "$@"\n')
        (tmp_path / name).chmod(0o755)
    process = await asyncio.create_subprocess_shell(
        COMMAND, cwd=tmp_path, env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, stdout=PIPE, stderr=PIPE
    )
    said, talk = await process.communicate()
    assert process.returncode == 0, talk
    assert said.decode().strip() == "WHAT IS THE CAPITAL OF FRANCE?"


async def test_the_documents_client_works(backend: McpCommBackend, tmp_path: Path):
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(_capital))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), handle.base_url, "What is the capital of France?", stdout=PIPE
    )
    said, _ = await process.communicate()
    assert (process.returncode, said.decode().strip()) == (0, "Paris.")


async def test_the_documents_messages_are_those_on_the_wire(backend: McpCommBackend):
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(_capital))
    async with aiohttp.ClientSession() as session, session.post(handle.base_url, json=CALL) as response:
        assert await response.json() == ANSWER


async def test_the_documents_configuration_is_taken():
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    backend = create_backend(Config.of(yaml.safe_load(example)))
    assert isinstance(backend, McpCommBackend)
    assert backend._choice == tools.Choice("search", "query", {"limit": 3})
    await backend.close()


def test_the_documents_words_are_those_of_the_code():
    for key in vars(dialect):
        if key.endswith("_KEY") and getattr(dialect, key).startswith("streaming-queue/"):
            assert f"| `{getattr(dialect, key)}` |" in TEXT
    assert f"`{dialect.EXTENSION}`" in TEXT
    assert all(f"`{version}`" in TEXT for version in dialect.VERSIONS)
    first, *others = dialect.HOSTED
    assert f"by `{first}`, `{others[0]}` and `{others[1]}`" in PLAIN
    *names, last = tools.USUAL_NAMES
    assert f"{', '.join(f'`{name}`' for name in names)} or `{last}`" in PLAIN
    *names, last = child.PASSED_ON
    assert f"{', '.join(f'`{name}`' for name in names)} and `{last}`" in PLAIN
    assert f"one tool, `{service.TOOL}`, with one argument, `{service.ARGUMENT}`" in PLAIN
    assert f"after each {HEARTBEAT_S:g} s of silence" in PLAIN
    assert f"white space every {HEARTBEAT_S:g} s" in PLAIN
    assert f"continues for {HostLimits().disconnect_grace_s / 60:g} minutes" in PLAIN
    assert all(f"`mcp.{key}`" in TEXT for key in ("tool", "argument", "arguments", "version", "environment"))
