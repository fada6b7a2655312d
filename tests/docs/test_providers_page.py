from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from streaming_queue.comm.context import RequestContext
from streaming_queue.config import Config
from streaming_queue.llm.choice import choose

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def described(config: Config, **environ: str) -> str:
    return choose(config.core, config.mock, environ=environ).describe()


@pytest.mark.parametrize(
    ("block", "line"),
    list(
        zip(
            blocks("yaml"),
            [
                "LLM: openai, the first model listed at http://127.0.0.1:8000/v1 (core.type)",
                "LLM: openai, llama3.2 at http://127.0.0.1:11434/v1 (core.type)",
                "LLM: openai, the first model listed at http://gpu-box:8080/v1 (core.type)",
                "LLM: openai, some-model at https://llm.example.com/v1 (core.type)",
                "LLM: mock (core.type; answers are made up)",
            ],
            strict=True,
        )
    ),
)
def test_the_configurations_do_what_the_page_says(block, line):
    assert described(Config.of(yaml.safe_load(block)), OPENAI_API_KEY="sk-0123456789") == line


@pytest.mark.parametrize(
    ("core", "environ"),
    [
        ({"type": "mock"}, {}),
        ({"type": "openai"}, {"OPENAI_API_KEY": "sk-0123456789"}),
        ({"port": 8000, "name": "qwen3"}, {}),
        ({}, {}),
    ],
)
def test_the_lines_printed_are_the_pages(core, environ):
    assert f"`{described(Config.of({'core': core}), **environ)}`" in PAGE


async def test_the_own_worker_answers():
    (block,) = blocks("python")
    namespace: dict[str, Any] = {"__name__": "page"}
    exec(block, namespace)  # noqa: S102 (our own page)
    events: list[dict[str, Any]] = []

    class Events:
        async def enqueue_event(self, event: Any) -> None:
            events.append(event)

    await namespace["executor"].execute(RequestContext({"text": "why?"}, streaming=True), Events())
    assert [event["data"] for event in events] == ["WHY?"]
