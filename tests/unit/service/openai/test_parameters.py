from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.service.openai.shapes import JSON, TEXTS, nested

from streaming_queue.service.openai.parameters import (
    MAX_NAME,
    MAX_NAMES,
    Metadata,
    Offence,
    Parameters,
    Strict,
    Text,
    an_object,
    clipped,
    refuse,
    validated,
)
from streaming_queue.service.openai.refusals import InvalidRequestError

TABLE = Parameters(frozenset({"text"}), {"n": (1,), "tools": ([],)}, frozenset({"seed"}))


class Document(Strict):
    text: Text
    n: int = 0
    metadata: Metadata | None = None


def offending(document: dict[str, object]) -> list[str]:
    return [each.param for each in TABLE.offending(document)]


def test_each_treatment() -> None:
    assert [TABLE.treatment(name) for name in ("text", "n", "seed", "else")] == [
        "honoured",
        "accepted when neutral",
        "refused",
        None,
    ]
    assert offending({"text": "a", "n": 1, "tools": []}) == []
    assert offending({"text": "a", "n": 1.0, "tools": None, "seed": None}) == []
    assert offending({"n": True, "tools": [0], "seed": 0, "else": None}) == ["n", "tools", "seed", "else"]


@given(st.dictionaries(st.sampled_from(["n", "tools", "seed", "text"]) | TEXTS, JSON))
def test_any_object_is_judged(document: dict[str, object]) -> None:
    offences = list(TABLE.offending(document, "at."))
    assert len(offences) <= len(document)
    if offences:
        with pytest.raises(InvalidRequestError) as refused:
            refuse(offences)
        assert str(refused.value).isascii()
        assert refused.value.param in {each.param for each in offences}


def test_a_deep_value_is_judged_and_not_followed() -> None:
    assert offending({"n": nested(100_000), "tools": nested(100_001)}) == ["n", "tools"]


def test_one_message_names_all_and_known_ones_first() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        refuse([Offence("x", known=False), Offence("seed"), Offence("messages[0].role", "tool")])
    assert (refused.value.param, refused.value.reason) == ("seed", "unsupported_parameter")
    assert all(each in str(refused.value) for each in ("x", "seed", "messages[0].role (tool)"))
    with pytest.raises(InvalidRequestError) as refused:
        refuse([Offence("x", known=False)])
    assert (refused.value.param, refused.value.reason) == ("x", "unknown_parameter")
    refuse([])


def test_a_message_stays_short() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        refuse(TABLE.offending({f"{number}" + "k" * 10_000: 1 for number in range(MAX_NAMES + 7)}))
    assert "and 7 more" in str(refused.value)
    assert len(str(refused.value)) < (MAX_NAME + 10) * MAX_NAMES


@given(TEXTS)
def test_a_clipped_name_is_printable(text: str) -> None:
    assert clipped(text).isascii()
    assert clipped(text).isprintable()
    assert len(clipped(text)) <= MAX_NAME + 3


@given(JSON)
def test_any_document_is_validated_or_refused(document: object) -> None:
    try:
        found = validated(Document, an_object(document))
    except InvalidRequestError as error:
        str(error).encode()
    else:
        assert isinstance(found.text, str)


@pytest.mark.parametrize(
    ("document", "param", "reason"),
    [
        ({}, "text", "missing_required_parameter"),
        ({"text": 1}, "text", "invalid_value"),
        ({"text": "a", "n": "1"}, "n", "invalid_value"),
        ({"text": "\ud800"}, "text", "invalid_value"),
        ({"text": "a", "metadata": {"k" * 65: ""}}, f"metadata.{'k' * 65}.[key]", "invalid_value"),
        ({"text": "a", "metadata": {"k": "v" * 513}}, "metadata.k", "invalid_value"),
        ({"text": "a", "metadata": dict.fromkeys(map(str, range(17)), "v")}, "metadata", "invalid_value"),
    ],
)
def test_a_wrong_member_is_named(document: dict[str, object], param: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        validated(Document, document)
    assert (refused.value.param, refused.value.reason) == (param, reason)


@pytest.mark.parametrize("document", [None, 1, "a", [], {1: 2}])
def test_only_an_object_is_one(document: object) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        an_object(document)
    assert refused.value.status == 400
