from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response
from unit.service.openai.shapes import JSON, TEXTS, nested, shaped

from streaming_queue.messages import MAX_QUESTION_BYTES, Result
from streaming_queue.service.openai import responses
from streaming_queue.service.openai.conversation import Asked
from streaming_queue.service.openai.refusals import InvalidRequestError, envelope
from streaming_queue.service.openai.response_objects import response

ASKED = Asked(responses.ENDPOINT, "2+2?", "m")
PARTS = st.fixed_dictionaries({"type": st.sampled_from(["input_text", "output_text"]) | JSON, "text": TEXTS | JSON})
ITEMS = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant"]) | JSON,
        "content": TEXTS | st.lists(PARTS | JSON, max_size=3) | JSON,
    },
    optional={"type": st.just("message") | JSON, "id": JSON, "status": JSON},
)
BODIES = st.fixed_dictionaries(
    {"input": TEXTS | st.lists(ITEMS | JSON, max_size=4) | JSON, "model": TEXTS | JSON},
    optional={name: JSON | st.booleans() for name in ("stream", "instructions", "metadata", "tools", "text", "other")},
)


def body(given: object = "2+2?", **members: object) -> dict[str, Any]:
    return {"model": "m", "input": given, **members}


def user(content: object, **members: object) -> dict[str, object]:
    return {"role": "user", "content": content, **members}


def refused(document: object) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        responses.read(document)
    return caught.value


@pytest.mark.parametrize(
    "given",
    ["2+2?", [user("2+2?")], [user([{"type": "input_text", "text": "2+2?"}], type="message", status=None)]],
)
def test_one_text_is_exactly_the_question(given: object) -> None:
    assert responses.read(body(given)) == ASKED


def test_instructions_are_the_first_turn() -> None:
    asked = responses.read(body(instructions="Be short."))
    assert asked.instructions == "Be short."
    assert asked.text == "The conversation so far:\n\nSystem: Be short.\n\nThe last message of the user:\n\n2+2?"
    assert responses.read(body(instructions="")).text == "2+2?"


def test_our_own_answer_comes_back_as_an_item() -> None:
    answered = response(ASKED, Result("4", "w", "p", 1.0), id="resp_1", created=1, completed=2)
    asked = responses.read(body([user("2+2?"), *answered["output"], user("And 3+3?")]))
    assert (
        asked.text
        == "The conversation so far:\n\nUser: 2+2?\n\nAssistant: 4\n\nThe last message of the user:\n\nAnd 3+3?"
    )


def test_what_is_honoured_arrives() -> None:
    asked = responses.read(body(stream=True, metadata={"a": "b"}))
    assert (asked.stream, asked.metadata, asked.include_usage) == (True, {"a": "b"}, False)


@pytest.mark.parametrize("name", sorted(responses.PARAMETERS.neutral))
def test_a_neutral_value_changes_nothing_and_another_is_refused_by_name(name: str) -> None:
    for value in (None, *responses.PARAMETERS.neutral[name]):
        assert responses.read(body(**{name: value})) == ASKED
    error = refused(body(**{name: "other"}))
    assert (error.status, error.param, error.reason) == (400, name, "unsupported_parameter")


@pytest.mark.parametrize("name", sorted(responses.PARAMETERS.refused))
def test_a_refused_parameter_is_named(name: str) -> None:
    assert responses.read(body(**{name: None})) == ASKED
    for value in (0, 1, False, "", {}, []):
        error = refused(body(**{name: value}))
        assert (error.status, error.param, error.reason) == (400, name, "unsupported_parameter")


def test_one_message_names_all_that_offends() -> None:
    items = [
        {"type": "function_call_output", "call_id": "1", "output": "x"},
        {"type": "reasoning", "summary": []},
        user(
            [{"type": "input_image", "image_url": ""}, {"type": "output_text", "text": "", "annotations": [1]}],
            phase="commentary",
        ),
    ]
    error = refused(body(items, previous_response_id="resp_0", other=1))
    assert (error.param, error.reason) == ("previous_response_id", "unsupported_parameter")
    for name in (
        "previous_response_id",
        "other",
        "input[0].type (function_call_output)",
        "input[1].type (reasoning)",
        "input[2].phase",
        "input[2].content[0].type (input_image)",
        "input[2].content[1].annotations",
    ):
        assert name in str(error)
    assert "call_id" not in str(error)


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"input": "a"}, "model"),
        ({"model": "m"}, "input"),
        (body(None), "input"),
        (body([]), "input"),
        (body(1), "input"),
        (body(" "), "input[0].content"),
        (body("\ud800"), "input"),
        (body(["a"]), "input[0]"),
        (body([{"type": None, "role": "user", "content": "a"}]), "input[0].type"),
        (body([user(None)]), "input[0].content"),
        (body([user("a", id=1)]), "input[0].id"),
        (body([user("a"), {"role": "assistant", "content": "b"}]), "input[1].role"),
        (body(instructions=1), "instructions"),
        (body(instructions=["a"]), "instructions"),
        (body(stream="yes"), "stream"),
        (7, None),
    ],
)
def test_a_wrong_body_is_refused_with_the_place(document: object, param: str | None) -> None:
    error = refused(document)
    assert (error.status, error.param) == (400, param)


def test_a_question_over_the_bound_is_too_large() -> None:
    half = "a" * (MAX_QUESTION_BYTES // 2)
    error = refused(body(half, instructions=half))
    assert (error.status, error.param, error.reason) == (413, "input", "question_too_large")


@given(JSON | BODIES)
def test_any_body_is_a_question_or_a_typed_error(document: object) -> None:
    try:
        asked = responses.read(document)
    except InvalidRequestError as error:
        json.dumps(envelope(error)).encode()
        str(error).encode()
    else:
        assert asked.text.strip()
        shaped(Response, response(asked, Result("4", "w", "p", 1.0), id="resp_1", created=1.0, completed=2.0))


@pytest.mark.parametrize("deep", [nested(100_000), nested(100_001)])
def test_deep_nesting_is_refused(deep: object) -> None:
    for document in (
        deep,
        body(deep),
        body([user(deep)]),
        body([user([deep])]),
        body(metadata=deep),
        body(instructions=deep),
        body(text=deep),
    ):
        assert refused(document).status == 400
