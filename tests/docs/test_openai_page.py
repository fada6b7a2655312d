"""docs/openai.md names every parameter of the official package, and says how the code treats it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params

from streaming_queue.errors import ERRORS_BY_CODE
from streaming_queue.messages import MAX_QUESTION_BYTES
from streaming_queue.service.openai import batch_lines, chat, refusals, responses, transcript
from streaming_queue.service.openai.refusals import InvalidRequestError

PAGE = (Path(__file__).parents[2] / "docs" / "openai.md").read_text("utf-8")
OFFICIAL = {
    "Chat completions": [
        completion_create_params.CompletionCreateParamsBase,
        completion_create_params.CompletionCreateParamsNonStreaming,
        completion_create_params.CompletionCreateParamsStreaming,
    ],
    "Responses": [
        response_create_params.ResponseCreateParamsBase,
        response_create_params.ResponseCreateParamsNonStreaming,
        response_create_params.ResponseCreateParamsStreaming,
    ],
}
ENDPOINTS: dict[str, tuple[ModuleType, dict[str, Any]]] = {
    "Chat completions": (chat, {"model": "m", "messages": [{"role": "user", "content": "a"}]}),
    "Responses": (responses, {"model": "m", "input": "a"}),
}
NAMES = [
    (title, name) for title, types in OFFICIAL.items() for name in sorted({n for t in types for n in t.__annotations__})
]


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(title: str) -> dict[str, tuple[str, list[Any]]]:
    """The table of a section: parameter -> treatment and neutral values."""
    rows = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| (.*) \|$", section(title), re.MULTILINE)
    return {
        name: (treatment, [json.loads(each) for each in re.findall(r"`(.+?)`", values)])
        for name, treatment, values in rows
    }


def test_the_official_types_are_found() -> None:
    assert len(NAMES) > 60
    assert {("Chat completions", "messages"), ("Chat completions", "stream"), ("Responses", "input")} <= set(NAMES)


@pytest.mark.parametrize(("title", "name"), NAMES)
def test_each_official_parameter_is_treated_as_the_table_says(title: str, name: str) -> None:
    endpoint, body = ENDPOINTS[title]
    treatment, values = table(title)[name]
    assert endpoint.PARAMETERS.treatment(name) == treatment
    if treatment == "honoured":
        with pytest.raises(InvalidRequestError) as refused:  # a wrong type shows that it is read
            endpoint.read(body | {name: 0.5})
        assert refused.value.reason == "invalid_value"
        return
    neutral = endpoint.read(body)
    for value in (None, *values):
        assert endpoint.read(body | {name: value}) == neutral
    assert bool(values) is (treatment == "accepted when neutral")
    for value in ("other", 0.5, {"a": 1}, ["a"]):
        with pytest.raises(InvalidRequestError) as refused:
            endpoint.read(body | {name: value})
        assert (refused.value.param, refused.value.reason) == (name, "unsupported_parameter")


@pytest.mark.parametrize("title", ENDPOINTS)
def test_the_table_is_the_code_s(title: str) -> None:
    parameters = ENDPOINTS[title][0].PARAMETERS
    assert set(table(title)) == {*parameters.honoured, *parameters.neutral, *parameters.refused}
    assert {name: values for name, (_, values) in table(title).items() if values} == {
        name: list(values) for name, values in parameters.neutral.items()
    }


def test_the_form_of_a_transcript_is_shown() -> None:
    shown = re.search(r"```\n(.*?)\n```", section("The text that an agent gets"), re.DOTALL)
    assert shown
    turns = [
        transcript.Turn("system", "Answer in one word."),
        transcript.Turn("user", "What is the capital of France?"),
        transcript.Turn("assistant", "Paris."),
        transcript.Turn("user", "And the one of Italy?"),
    ]
    assert shown[1] == transcript.transcript(turns)


def test_the_figures_are_the_code_s() -> None:
    assert f"at most {MAX_QUESTION_BYTES:,} bytes" in PAGE
    assert f"at most {batch_lines.MAX_CUSTOM_ID} characters" in PAGE


def test_each_status_and_type_of_an_error_is_listed() -> None:
    listed = {
        int(status): kinds for status, kinds in re.findall(r"^\| (\d+) \| (.+?) \|", section("Errors"), re.MULTILINE)
    }
    ours = [refusals.ServiceError, refusals.NoAnswerError, InvalidRequestError, *InvalidRequestError.__subclasses__()]
    told = [refusals.refusal(cls("x")) for cls in (*ERRORS_BY_CODE.values(), *ours)]
    assert {each.status for each in told} == set(listed)
    assert all(f"`{each.document['error']['type']}`" in listed[each.status] for each in told)
