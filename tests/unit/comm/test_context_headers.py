from __future__ import annotations

from typing import Any

import pytest

from streaming_queue.comm.context import HEADER_BY_KEY
from streaming_queue.comm.context_headers import read_context, write_context, write_trace

CONTEXT = {
    "run_id": "run 1",
    "question_id": "问题 %41/\r\n",
    "attempt": 2,
    "deadline_ms": 0,
    "idempotency_key": " run/1 ",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "hops": 3,
    "kind": "question",
}


def test_a_context_comes_back_as_it_went():
    headers, rest = write_context({**CONTEXT, "mine": [1]})
    assert set(headers) == set(HEADER_BY_KEY.values())
    assert all(value.isascii() and value.isprintable() and value == value.strip() for value in headers.values())
    assert read_context({**headers, "other": "x"}) == CONTEXT
    assert rest == {"mine": [1]}


@pytest.mark.parametrize("value", [True, -1, 1.5, "2", None])
def test_what_is_no_number_of_ours_is_left_to_the_body(value: Any):
    assert write_context({"attempt": value}) == ({}, {"attempt": value})


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "9" * 20, "", "²"])
def test_a_strangers_number_that_is_none_stays_text(text: str):
    assert read_context({"stq-attempt": text}) == {"attempt": text}


def test_a_message_with_metadata_of_its_own_leaves_the_trace_to_the_headers() -> None:
    metadata = {"traceparent": "00-1-2-01", "attempt": 2, "mine": None}
    assert write_trace(metadata) == ({"traceparent": "00-1-2-01"}, {"attempt": 2, "mine": None})
    assert write_trace({"traceparent": 7}) == ({}, {"traceparent": 7})
    assert len(metadata) == 3
