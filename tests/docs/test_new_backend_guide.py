"""The guide for whoever adds a protocol: what it shows is what is generated, and all of it is run, from first to last."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from docs.background import in_background
from guide.checkout import Checkout
from plugin.environment import Environment

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import CallContext, RequestContext
from streaming_queue.comm.host.execution import Execution
from streaming_queue.errors import RateLimitedError, error_from_event
from streaming_queue.messages import payload_text
from streaming_queue.scaffold.package import Names, render

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
NAMES = ("new-backend", "scene", "package", "client", "hosting", "running")
PAGES = [(GUIDE / f"{name}.md", GUIDE / f"{name}.zh-CN.md") for name in NAMES]
FIRST = PAGES[0]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block that has a language; the others are drawings."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


PACKAGE = [block for english, _ in PAGES[1:] for block in blocks(english)]
"""What is shown of the package that `stq protocol new` writes, from first to last."""


def of(language: str) -> list[str]:
    return [text for found, text in PACKAGE if found == language]


@pytest.mark.parametrize(("english", "chinese"), PAGES, ids=NAMES)
def test_both_languages_show_the_same(english: Path, chinese: Path) -> None:
    assert blocks(english) == blocks(chinese)
    for pattern in (r"^#+ ", r"^- \[ \] ", r"^\d+\. ", r"^\|"):
        counts = [len(re.findall(pattern, page.read_text("utf-8"), re.MULTILINE)) for page in (english, chinese)]
        assert counts[0] == counts[1], pattern


@pytest.mark.parametrize("page", [page for pages in PAGES for page in pages], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))):
        there = (GUIDE / target).read_text("utf-8")
        heads = [
            re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in re.findall(r"(?m)^#+ (.*)$", there)
        ]
        assert not anchor or anchor in heads, f"{target}#{anchor}"


@pytest.mark.parametrize("page", FIRST, ids=["en", "zh"])
def test_a_whole_backend_and_what_its_run_prints_are_the_first_thing_shown(page: Path) -> None:
    first = page.read_text("utf-8").partition("291 of 291")[0]
    assert len(first.splitlines()) <= 50
    assert [language for language, _ in blocks(page)][:2] == ["python", "console"]


def test_the_first_backend_runs_as_shown(tmp_path: Path, fixed_ports: None) -> None:
    checkout, agents = Checkout.create(tmp_path / "checkout"), []
    with ExitStack() as served:
        for language, text in blocks(FIRST[0]):
            if language == "python":
                name, _, _ = text.partition("\n")
                file = checkout.root / name.removeprefix("# ")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
                continue
            commands = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
            printed = [line for line in text.splitlines() if not line.startswith("$ ")]
            for command in commands:
                words = shlex.split(command.removesuffix(" &"))
                arguments = words[1:] if words[0] == "python" else ["-m", "streaming_queue.cli", *words[1:]]
                if command.endswith(" &"):
                    process = served.enter_context(checkout.start(*arguments))
                    served.callback(process.terminate)
                    assert process.stdout
                    assert "ready" in process.stdout.readline()
                    agents.append(process)
                    continue
                done = checkout.run(*arguments)
                assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
            for line in printed:
                assert without_time(line) in without_time(done.stderr)
    assert [process.returncode for process in agents] == [0]


def without_time(text: str) -> str:
    return re.sub(r"\d{8}-\d{6}", "TIME", text)


@pytest.mark.interop
@pytest.mark.timeout(300)
def test_everything_shown_works_in_its_order(tmp_path: Path, fixed_ports: None) -> None:
    environment = Environment.create(tmp_path / "venv")
    with ExitStack() as served:
        for language, text in PACKAGE:
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


def test_the_code_shown_is_the_code_written() -> None:
    files = render(Names("my-proto"))
    shown = dict(
        text.removeprefix("# my-proto/").split("\n", 1) for text in of("python") if text.startswith("# my-proto")
    )
    of_the_package = {name: body for name, body in shown.items() if name in files}
    assert {"src/my_proto/comm.py", "src/my_proto/host.py", "src/my_proto/codec.py"} <= set(of_the_package)
    for name, body in of_the_package.items():
        assert body in files[name], name


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
    [
        (GUIDE / "package.md", "| member | required | promises |", "yes"),
        (GUIDE / "package.zh-CN.md", "| 成员 | 必须实现 | 约定 |", "是"),
    ],
    ids=["en", "zh"],
)
def test_the_members_are_those_of_the_class(page: Path, head: str, required: str) -> None:
    named = [(re.findall(r"`(\w+)[(`]", cells[0]), cells[1]) for cells in rows(page, head)]
    assert {member for members, needed in named for member in members if needed} == BaseCommBackend.__abstractmethods__
    assert {needed for _, needed in named} == {"", required}
    own = {name for name in vars(BaseCommBackend) if not name.startswith("_")}
    helpers = {"endpoints", "endpoint", "protocol_of", "request", "route"}
    assert {member for members, _ in named for member in members} == own - helpers
