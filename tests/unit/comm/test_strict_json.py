"""What a stranger's JSON may hold, and what it costs to find that it holds too much."""

from __future__ import annotations

import time

import orjson
import pytest

from streaming_queue.comm.strict_json import (
    MAX_ANSWER_VALUES,
    MAX_DEPTH,
    MAX_VALUES,
    OverBoundsError,
    loads,
    read,
    read_answer,
    read_or_none,
)
from streaming_queue.errors import ProtocolError


def nested(depth: int, opened: bytes = b"[", closed: bytes = b"]") -> bytes:
    return opened * depth + closed * depth


FIT = {
    "many numbers": orjson.dumps([0] * (MAX_VALUES - 1)),
    "a long text that looks like JSON": orjson.dumps({"text": '[1,2,"{}",\\"],' * 20_000}),
    "many texts that look like JSON": orjson.dumps({f'"{key},[': '\\",[{' for key in range(4000)}),
    "a text alone": orjson.dumps("," * 20_000),
    "as deep as may be": nested(MAX_DEPTH),
    "many brackets, not deep": b"[" + b",".join([b"[]"] * 300) + b"]",
}
TOO_MUCH = {
    "numbers": orjson.dumps({"text": "q", "metadata": {"n": [0] * 300_000}}),
    "members": orjson.dumps({f"{key}": None for key in range(MAX_VALUES + 1)}),
    "empty lists": b"[" + b",".join([b"[]"] * 300_000) + b"]",
    "texts": b"[" + b",".join([b'""'] * 300_000) + b"]",
    "behind a text of quotes": orjson.dumps(['"' * 50, '\\"' * 50, [0] * MAX_VALUES]),
    "too deep": nested(MAX_DEPTH + 1),
    "objects too deep": nested(MAX_DEPTH, b'{"a":', b"}").replace(b":}", b":[]}", 1),
    "far too deep": nested(500_000),
}


@pytest.mark.parametrize("body", FIT.values(), ids=FIT)
def test_what_fits_is_read(body: bytes) -> None:
    assert loads(body) == read(body) == read_answer(body, "w") == orjson.loads(body)


@pytest.mark.parametrize("body", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_is_too_much_is_refused_at_little_cost(body: bytes) -> None:
    began = time.process_time()
    for reader in (read, loads):
        with pytest.raises(OverBoundsError):
            reader(body)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("name", ["numbers", "texts", "too deep", "far too deep"])
def test_a_peers_answer_may_have_more_values_and_not_any_number(name: str) -> None:
    assert len(read_answer(orjson.dumps([0] * (MAX_ANSWER_VALUES - 1)), "w")) == MAX_ANSWER_VALUES - 1
    assert read_or_none(TOO_MUCH[name]) is None
    with pytest.raises(ProtocolError) as caught:
        read_answer(TOO_MUCH[name], "w")
    assert caught.value.retryable is False


@pytest.mark.parametrize("body", [b"", b"<html>" + b"," * 20_000, b'{"a":' + b"," * 100, b'"' * 20_001])
def test_what_is_no_json_is_told_apart(body: bytes) -> None:
    with pytest.raises(ValueError) as caught:  # any, but the one below
        read(body)
    assert not isinstance(caught.value, OverBoundsError)
    assert read_answer(body, "w") is None
