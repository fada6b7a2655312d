from __future__ import annotations

import io
import json
import os
from decimal import Decimal
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from streaming_queue.telemetry.json_lines import JsonLines, encode, encode_line

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=[])), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(ANYTHING)
def test_whatever_a_row_holds_is_one_line_of_json(value):
    line = encode_line({"answer": value})
    assert line.count(b"\n") == 1
    assert not any(byte < 32 for byte in line[:-1])
    assert "answer" in json.loads(line)


def test_what_json_can_hold_is_kept():
    value = {"text": "né\u2028\x1b[2J", "number": 2**60, "list": [1.5, None, True]}
    assert json.loads(encode(value)) == value


def test_what_json_cannot_hold_is_replaced():
    value = {
        "surrogate": "a\ud800b",
        "large": 2**70,
        "huge": 10**400,
        "nan": float("nan"),
        "decimal": Decimal("1.5"),
        5: MappingProxyType({"a": {1}}),
    }
    assert json.loads(encode(value)) == {
        "surrogate": "a?b",
        "large": float(2**70),
        "huge": str(10**400),
        "nan": None,
        "decimal": "1.5",
        "5": {"a": [1]},
    }


def test_each_line_says_what_it_is():
    stream = io.BytesIO()
    output = JsonLines(stream)
    output.result({"question_id": "q", "answer": "line\nbreak"})
    output.summary({"answered": 1})
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"type": "result", "question_id": "q", "answer": "line\nbreak"},
        {"type": "summary", "answered": 1},
    ]


def test_a_line_is_there_at_once():
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stream, os.fdopen(reader, "rb") as received:
        JsonLines(stream).result({"question_id": "q"})
        assert json.loads(received.readline()) == {"type": "result", "question_id": "q"}


def test_a_reader_that_went_away_is_no_failure():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stream:
        output = JsonLines(stream)
        for _ in range(3):
            output.result({"question_id": "q"})
        assert output.broken


def test_a_closed_standard_output_is_no_failure(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    output = JsonLines()
    output.result({"question_id": "q"})
    assert output.broken
