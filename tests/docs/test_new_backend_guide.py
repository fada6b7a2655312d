"""The guide for whoever adds a protocol: what it shows is what is generated, and all of it is run, from first to last."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from docs.background import in_background
from plugin.environment import Environment

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import CallContext, RequestContext
from streaming_queue.comm.execution import Execution
from streaming_queue.errors import RateLimitedError, error_from_event
from streaming_queue.messages import payload_text

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
ENGLISH, CHINESE = (GUIDE / name for name in ("new-backend.md", "new-backend.zh-CN.md"))


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block that has a language; the others are drawings."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def of(language: str) -> list[str]:
    return [text for found, text in blocks(ENGLISH) if found == language]


def test_both_pages_show_the_same() -> None:
    assert blocks(ENGLISH) == blocks(CHINESE)
    assert {language for language, _ in blocks(ENGLISH)} == {"console", "json", "python", "yaml"}


def test_both_pages_have_the_same_parts() -> None:
    for pattern in (r"^#+ ", r"^- \[ \] ", r"^\d+\. ", r"^\|"):
        counts = [len(re.findall(pattern, page.read_text("utf-8"), re.MULTILINE)) for page in (ENGLISH, CHINESE)]
        assert counts[0] == counts[1] > 0, pattern


@pytest.mark.interop
@pytest.mark.timeout(300)
def test_everything_shown_works_in_its_order(tmp_path: Path, fixed_ports: None) -> None:
    environment = Environment.create(tmp_path / "venv")
    with ExitStack() as served:
        for language, text in blocks(ENGLISH):
            if language == "console":
                for line in text.splitlines():
                    command = line.removeprefix("$ ")
                    if command.endswith(" &"):
                        served.enter_context(in_background(command, tmp_path, environment.variables()))
                        continue
                    done = environment.run(command, tmp_path)
                    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
            elif language in {"python", "yaml"}:
                name, _, body = text.partition("\n")
                file = tmp_path / name.removeprefix("# ")
                if file.exists():
                    assert body in file.read_text(), name
                else:
                    file.write_text(body)


def test_the_payloads_are_payloads() -> None:
    with_text, with_parts = map(json.loads, of("json")[0].splitlines())
    assert payload_text(with_text) == "What is the capital of France?"
    assert payload_text(with_parts) == "What is the capital\nof France?"
    call = CallContext.from_metadata(with_text["metadata"])
    assert (call.kind, call.idempotency_key) == ("question", "run-1/q-7/5e1f")


def test_the_reply_is_a_reply() -> None:
    (line,) = of("json")[1].splitlines()
    reply = json.loads(line)
    assert set(reply) == {"raw", "text", "metadata"}
    assert reply["text"] == "Paris."


async def test_the_events_are_events() -> None:
    events = [json.loads(line) for line in of("json")[2].splitlines()]

    class Agent:
        async def execute(self, context, event_queue) -> None:
            for event in events:
                await event_queue.enqueue_event(event)

    execution = Execution(Agent(), RequestContext({"text": "?"}))
    assert [event async for event in execution.events()] == events


def test_the_error_is_an_error() -> None:
    (line,) = of("json")[3].splitlines()
    error = error_from_event(json.loads(line))
    assert type(error) is RateLimitedError
    assert (str(error), error.retryable, error.retry_after_s) == ("slow down", True, 2.5)


def rows(page: Path, head: str) -> Iterator[list[str]]:
    _, _, table = page.read_text("utf-8").partition(f"{head}\n")
    for line in table.splitlines()[1:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("page", "head", "required"),
    [(ENGLISH, "| member | required | promises |", "yes"), (CHINESE, "| 成员 | 必须实现 | 约定 |", "是")],
    ids=["en", "zh"],
)
def test_the_members_are_those_of_the_class(page: Path, head: str, required: str) -> None:
    named = [(re.findall(r"`(\w+)[(`]", cells[0]), cells[1]) for cells in rows(page, head)]
    assert {member for members, needed in named for member in members if needed} == BaseCommBackend.__abstractmethods__
    assert {needed for _, needed in named} == {"", required}
    own = {name for name in vars(BaseCommBackend) if not name.startswith("_")}
    helpers = {"endpoints", "endpoint", "protocol_of", "request", "route"}
    assert {member for members, _ in named for member in members} == own - helpers
