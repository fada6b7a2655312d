from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.service.openai.shapes import JSON, TEXTS

from streaming_queue.messages import MAX_QUESTION_BYTES, is_too_long
from streaming_queue.service.openai.conversation import Message, MessageRules, question_text
from streaming_queue.service.openai.parameters import Parameters
from streaming_queue.service.openai.refusals import InvalidRequestError, TooLargeError
from streaming_queue.service.openai.transcript import ROLES, Turn, transcript

MEMBERS = frozenset({"role", "content"})
RULES = MessageRules(Parameters(MEMBERS), Parameters(frozenset({"type", "text"})), ("text",))
TYPED = MessageRules(Parameters(MEMBERS | {"type"}), Parameters(frozenset({"type", "text"})), ("text",))


def message(role: str, content: object) -> Message:
    return Message.model_validate({"role": role, "content": content})


@given(st.lists(JSON | st.dictionaries(st.sampled_from(["role", "content", "type"]) | TEXTS, JSON), max_size=4) | JSON)
def test_any_messages_are_judged(messages: object) -> None:
    for rules in (RULES, TYPED):
        for offence in rules.offending(messages, "messages"):
            assert offence.param.startswith("messages[")
            assert str(offence).isascii()


def test_a_type_is_a_member_only_where_the_endpoint_has_items() -> None:
    item = {"type": "reasoning", "summary": []}
    assert [str(each) for each in RULES.offending([item], "m")] == ["m[0].type", "m[0].summary"]
    assert [str(each) for each in TYPED.offending([item], "m")] == ["m[0].type (reasoning)"]
    assert [str(each) for each in TYPED.offending([{"type": 1}], "m")] == ["m[0].type (no text)"]


@pytest.mark.parametrize("role", ROLES)
def test_the_turn_of_a_message(role: str) -> None:
    assert message(role, "a").turn() == Turn(role, "a")
    assert message(role, [{"text": "a"}, {"text": ""}, {"text": "b"}]).turn() == Turn(role, "a\n\nb")


@pytest.mark.parametrize("instructions", [None, "", "Be short."])
def test_the_question_is_the_transcript(instructions: str | None) -> None:
    turns = [Turn("user", "a"), Turn("user", "b")]
    first = [Turn("system", instructions)] if instructions else []
    assert question_text([message("user", "a"), message("user", "b")], "m", instructions) == transcript(first + turns)


@pytest.mark.parametrize(
    ("role", "content", "param"), [("assistant", "a", "m[1].role"), ("user", "\t", "m[1].content")]
)
def test_the_last_message_asks(role: str, content: str, param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        question_text([message("user", "a"), message(role, content)], "m")
    assert refused.value.param == param


def test_the_bound_is_that_of_a_question() -> None:
    longest = "a" * (MAX_QUESTION_BYTES - 2)  # its JSON has two quotes
    assert question_text([message("user", longest)], "m") == longest
    assert is_too_long(longest + "a")
    with pytest.raises(TooLargeError) as refused:
        question_text([message("user", longest + "a")], "m")
    assert (refused.value.param, refused.value.status) == ("m", 413)
