from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from unit.service.openai.shapes import JSON, TEXTS, nested, shaped

from streaming_queue.messages import MAX_QUESTION_BYTES, Result
from streaming_queue.service.openai import chat
from streaming_queue.service.openai.conversation import Asked
from streaming_queue.service.openai.refusals import InvalidRequestError, TooLargeError, envelope

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
ASKED = Asked(chat.ENDPOINT, "2+2?", "m")

PARTS = st.fixed_dictionaries({"type": st.just("text") | JSON, "text": TEXTS | JSON}, optional={"x": JSON})
MESSAGES = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant"]) | JSON,
        "content": TEXTS | st.lists(PARTS | JSON, max_size=3) | JSON,
    },
    optional={"name": JSON, "tool_calls": JSON, "refusal": JSON},
)
BODIES = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGES | JSON, max_size=4) | JSON, "model": TEXTS | JSON},
    optional={
        name: JSON | st.booleans() for name in ("stream", "stream_options", "metadata", "n", "seed", "tools", "other")
    },
)
GOOD = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text()}),
            max_size=4,
        ).map(lambda earlier: [*earlier, {"role": "user", "content": "last?"}]),
        "model": st.text(min_size=1, max_size=256),
    },
    optional={
        "stream": st.booleans() | st.none(),
        "n": st.just(1),
        "metadata": st.dictionaries(st.text(max_size=64), st.text(max_size=512), max_size=16),
    },
)


def body(*messages: object, **members: object) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages) or [{"role": "user", "content": "2+2?"}], **members}


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def refused(document: object) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        chat.read(document)
    return caught.value


def test_one_user_message_is_exactly_its_text() -> None:
    assert chat.read(body(user(" 2+2?\n"))) == Asked(chat.ENDPOINT, " 2+2?\n", "m")


def test_text_parts_are_joined_by_newlines() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat.read(body(user(parts))).text == "a\nb"


def test_a_history_is_a_transcript() -> None:
    answer = {
        "role": "assistant",
        "content": "4",
        "refusal": None,
        "annotations": [],
        "tool_calls": [],
        "function_call": None,
        "audio": None,
    }
    asked = chat.read(body({"role": "developer", "content": "Be short."}, user("2+2?"), answer, user("And 3+3?")))
    assert asked.text == (
        "The conversation so far:\n\nDeveloper: Be short.\n\nUser: 2+2?\n\nAssistant: 4\n\nThe last message of the user:\n\nAnd 3+3?"
    )


def test_what_is_honoured_arrives() -> None:
    asked = chat.read(
        body(stream=True, stream_options={"include_usage": True, "include_obfuscation": False}, metadata={"a": "b"})
    )
    assert (asked.stream, asked.include_usage, asked.metadata) == (True, True, {"a": "b"})
    asked = chat.read(body(stream=None, stream_options=None, metadata=None))
    assert (asked.stream, asked.include_usage, asked.metadata) == (False, False, None)


@pytest.mark.parametrize("name", sorted(chat.PARAMETERS.neutral))
def test_a_neutral_value_changes_nothing_and_another_is_refused_by_name(name: str) -> None:
    for value in (None, *chat.PARAMETERS.neutral[name]):
        assert chat.read(body(**{name: value})) == ASKED
    error = refused(body(**{name: "other"}))
    assert (error.status, error.param, error.reason) == (400, name, "unsupported_parameter")


@pytest.mark.parametrize("name", sorted(chat.PARAMETERS.refused))
def test_a_refused_parameter_is_named(name: str) -> None:
    assert chat.read(body(**{name: None})) == ASKED
    for value in (0, 1, False, "", {}, []):
        error = refused(body(**{name: value}))
        assert (error.status, error.param, error.reason) == (400, name, "unsupported_parameter")


def test_one_message_names_all_that_offends() -> None:
    error = refused(
        body(
            {"role": "tool", "content": "x", "tool_call_id": "1"},
            user([{"type": "image_url", "image_url": {}}, {"type": "text", "text": "", "extra": 1}]),
            seed=1,
            temprature=2,
            n=2,
            stream_options={"include_obfuscation": True},
        )
    )
    assert (error.param, error.reason) == ("seed", "unsupported_parameter")
    for name in (
        "seed",
        "temprature",
        " n",
        "stream_options.include_obfuscation",
        "messages[0].role (tool)",
        "messages[0].tool_call_id",
    ):
        assert name in str(error)
    assert "messages[1].content[0].type (image_url)" in str(error)
    assert "messages[1].content[1].extra" in str(error)


def test_an_unknown_parameter_alone_is_called_unknown() -> None:
    error = refused(body(temprature=2))
    assert (error.param, error.reason) == ("temprature", "unknown_parameter")


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"messages": [user("a")]}, "model"),
        ({"model": "m"}, "messages"),
        (body(model=""), "model"),
        (body(model=1), "model"),
        (body(messages=[]), "messages"),
        (body(messages="hello"), "messages"),
        (body(stream="true"), "stream"),
        (body(stream=1), "stream"),
        (body(stream_options={"include_usage": True}), "stream_options"),
        (body(stream=True, stream_options=[]), "stream_options"),
        (body(stream=True, stream_options={"include_usage": 1}), "stream_options.include_usage"),
        (body(metadata={"a": 1}), "metadata.a"),
        (body("hello"), "messages[0]"),
        (body({"content": "a"}), "messages[0].role"),
        (body({"role": "user"}), "messages[0].content"),
        (body(user(None)), "messages[0].content"),
        (body(user(1)), "messages[0].content"),
        (body(user([])), "messages[0].content"),
        (body(user(["a"])), "messages[0].content[0]"),
        (body(user([{"type": "text"}])), "messages[0].content[0].text"),
        (body(user([{"text": "a"}])), "messages[0].content[0].type"),
        (body(user("")), "messages[0].content"),
        (body(user(" \n")), "messages[0].content"),
        (body(user("\ud800")), "messages[0].content"),
        (body(user("a"), {"role": "assistant", "content": "b"}), "messages[1].role"),
        (body({"role": "system", "content": "b"}), "messages[0].role"),
        ([], None),
        (None, None),
    ],
)
def test_a_wrong_body_is_refused_with_the_place(document: object, param: str | None) -> None:
    error = refused(document)
    assert (error.status, error.param) == (400, param)


def test_a_question_over_the_bound_is_too_large() -> None:
    error = refused(body(user("ü" * MAX_QUESTION_BYTES)))
    assert isinstance(error, TooLargeError)
    assert (error.status, error.param) == (413, "messages")
    half = "a" * (MAX_QUESTION_BYTES // 2)
    assert refused(body(user(half), user(half))).status == 413
    assert chat.read(body(user(half)))


@given(JSON | BODIES)
def test_any_body_is_a_question_or_a_typed_error(document: object) -> None:
    try:
        asked = chat.read(document)
    except InvalidRequestError as error:
        json.dumps(envelope(error)).encode()
        str(error).encode()
    else:
        assert asked.text.strip()
        shaped(ChatCompletion, chat.completion(asked, Result("4", "w", "p", 1.0), id="chatcmpl-1", created=1.5))


@given(GOOD)
def test_a_valid_body_is_accepted(document: dict[str, Any]) -> None:
    asked = chat.read(document)
    assert asked.text.endswith("last?")
    assert asked.model == document["model"]
    assert asked.stream is bool(document.get("stream"))


@pytest.mark.parametrize("deep", [nested(100_000), nested(100_001)])
def test_deep_nesting_is_refused(deep: object) -> None:
    for document in (
        deep,
        body(deep),
        body(user(deep)),
        body(user([deep])),
        body(metadata=deep),
        body(stream_options=deep),
        body(model=deep),
    ):
        assert refused(document).status == 400


@pytest.mark.parametrize(("truncated", "finish"), [(None, "stop"), (False, "stop"), (True, "length")])
def test_the_completion(truncated: bool | None, finish: str) -> None:
    result = Result("4", "w", "p", 1.0, usage=USAGE, truncated=truncated)
    asked = Asked(chat.ENDPOINT, "q", "m", metadata={"a": "b"})
    parsed = shaped(ChatCompletion, chat.completion(asked, result, id="chatcmpl-1", created=1.9))
    choice = parsed.choices[0]
    assert (parsed.id, parsed.created, parsed.model, parsed.metadata) == ("chatcmpl-1", 1, "m", {"a": "b"})
    assert (choice.message.content, choice.finish_reason) == ("4", finish)
    assert parsed.usage
    assert parsed.usage.total_tokens == 7


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 3}])
def test_an_unknown_usage_is_left_out(usage: dict[str, int] | None) -> None:
    document = chat.completion(ASKED, Result("4", "w", "p", 1.0, usage=usage), id="chatcmpl-1", created=1)
    assert "usage" not in document
    assert "metadata" not in document


@pytest.mark.parametrize("include_usage", [True, False])
@pytest.mark.parametrize("usage", [USAGE, None])
def test_the_chunks(include_usage: bool, usage: dict[str, int] | None) -> None:
    asked = Asked(chat.ENDPOINT, "q", "m", stream=True, include_usage=include_usage)
    chunks = chat.Chunks(asked, "chatcmpl-1", 1.9)
    documents = [
        chunks.opening(),
        chunks.delta("4"),
        chunks.delta("2"),
        *chunks.closing(Result("42", "w", "p", 1.0, usage=usage, truncated=True)),
    ]
    parsed = [shaped(ChatCompletionChunk, document) for document in documents]
    choices = [chunk.choices[0] for chunk in parsed if chunk.choices]
    assert {(chunk.id, chunk.created, chunk.model) for chunk in parsed} == {("chatcmpl-1", 1, "m")}
    assert choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in choices) == "42"
    assert [choice.finish_reason for choice in choices] == [None, None, None, "length"]
    assert all(("usage" in document) is include_usage for document in documents)
    told = include_usage and usage is not None
    assert len(parsed) == 4 + told
    assert (parsed[-1].usage is not None) is told


def test_the_wire_form_of_a_chunk() -> None:
    assert chat.event({"a": "ü\n"}) == 'data: {"a":"ü\\n"}\n\n'.encode()
    assert chat.DONE == b"data: [DONE]\n\n"


@given(TEXTS)
def test_any_piece_of_an_answer_is_one_event(text: str) -> None:
    chunks = chat.Chunks(ASKED, "chatcmpl-1", 1)
    for document in (chunks.delta(text), *chunks.closing(Result(text, "w", "p", 1.0))):
        data = chat.event(document)
        assert data.count(b"\n") == 2
        shaped(ChatCompletionChunk, json.loads(data.removeprefix(b"data: ")))
