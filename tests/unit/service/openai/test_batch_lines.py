from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import BatchError
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from unit.service.openai.shapes import JSON, TEXTS, nested, shaped

from streaming_queue.messages import Failure, Outcome, Question, Result
from streaming_queue.service.openai import batch_lines, chat, responses
from streaming_queue.service.openai.batch_lines import LineError, error_line, output_line, read_line, unanswered_line
from streaming_queue.service.openai.conversation import Asked

CHAT = {"model": "m", "messages": [{"role": "user", "content": "2+2?"}]}
LINE = {"custom_id": "a", "method": "POST", "url": chat.ENDPOINT, "body": CHAT}
RESULT = Result("4", "w", "p", 1.0, usage={"prompt_tokens": 1, "completion_tokens": 2})
LINES = st.fixed_dictionaries(
    {
        "custom_id": TEXTS | JSON,
        "method": st.just("POST") | JSON,
        "url": st.sampled_from([chat.ENDPOINT, responses.ENDPOINT]) | JSON,
        "body": st.just(CHAT) | st.just({"model": "m", "input": "a"}) | JSON,
    },
    optional={"other": JSON},
)


def outcome(result: Result | None = None, failure: Failure | None = None) -> Outcome:
    return Outcome(1, Question("q", "a"), 1, 1_700_000_000.5, result, failure)


def refused(line: dict[str, Any] | bytes | str, **members: Any) -> LineError:
    text = json.dumps(line) if isinstance(line, dict) else line
    found = read_line(text, 7, **members)
    assert isinstance(found, LineError)
    assert found.number == 7
    shaped(BatchError, found.detail)
    return found


def test_a_line_of_each_endpoint() -> None:
    assert read_line(json.dumps(LINE), 1) == ("a", Asked(chat.ENDPOINT, "2+2?", "m"))
    line = LINE | {"url": responses.ENDPOINT, "body": {"model": "m", "input": "2+2?"}}
    assert read_line(json.dumps(line).encode() + b"\r\n", 1) == ("a", Asked(responses.ENDPOINT, "2+2?", "m"))


@pytest.mark.parametrize(
    ("change", "param", "custom_id"),
    [
        ({"custom_id": None}, "custom_id", None),
        ({"custom_id": 1}, "custom_id", None),
        ({"custom_id": ""}, "custom_id", None),
        ({"custom_id": "a" * 513}, "custom_id", None),
        ({"method": "GET"}, "method", "a"),
        ({"url": "/v1/embeddings"}, "url", "a"),
        ({"body": "x"}, "body", "a"),
        ({"body": {}}, "messages", "a"),
        ({"body": CHAT | {"seed": 1}}, "seed", "a"),
        ({"body": CHAT | {"stream": True}}, "stream", "a"),
        ({"body": CHAT | {"model": ["m"]}}, "model", "a"),
        ({"other": 1}, "other", "a"),
        ({"url": responses.ENDPOINT}, "messages", "a"),
    ],
)
def test_a_wrong_line_is_refused_with_the_place(change: dict[str, Any], param: str, custom_id: str | None) -> None:
    found = refused(LINE | change)
    assert (found.error.param, found.custom_id) == (param, custom_id)
    assert found.detail == {"code": found.error.reason, "line": 7, "message": str(found.error), "param": param}
    written = found.line("batch_req_1")
    assert (written["id"], written["custom_id"], written["response"]) == ("batch_req_1", custom_id, None)
    assert written["error"] == {"code": found.error.reason, "message": str(found.error)}


def test_a_line_of_another_endpoint_than_the_batch_is_refused() -> None:
    assert read_line(json.dumps(LINE), 1, chat.ENDPOINT) == ("a", Asked(chat.ENDPOINT, "2+2?", "m"))
    found = refused(LINE, endpoint=responses.ENDPOINT)
    assert (found.error.param, found.error.reason) == ("url", "mismatched_endpoint")


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff", b"{", "{}{}", "\ud800", '{"custom_id": "\\ud800"}', b'{"a": 1, "a": 2}', b"[" * 300 + b"]" * 300,
     b"[" * 100_000, "NaN", json.dumps(list(range(20_000)))],
)  # fmt: skip
def test_a_line_that_is_no_json_is_refused(line: bytes | str) -> None:
    assert refused(line).error.reason == "invalid_json_line"


@pytest.mark.parametrize("line", [b"1", b"[]", b"null", b'"a"'])
def test_a_line_that_is_no_object_is_refused(line: bytes) -> None:
    assert refused(line).error.reason == "invalid_type"


def test_a_deep_body_is_refused() -> None:
    assert refused(LINE | {"body": nested(200)}).custom_id == "a"


@given(st.binary() | TEXTS | (JSON | LINES).map(json.dumps))
def test_any_line_is_a_question_or_an_error_line(line: bytes | str) -> None:
    found = read_line(line, 1)
    if isinstance(found, LineError):
        shaped(BatchError, found.detail)
        orjson.dumps(found.line("batch_req_1"))
    else:
        orjson.dumps(output_line(*found, outcome(RESULT), "batch_req_1"))


def test_an_output_line_of_each_endpoint() -> None:
    line = output_line("a", Asked(chat.ENDPOINT, "", "m"), outcome(RESULT), "batch_req_1")
    body = line["response"].pop("body")
    assert line == {
        "id": "batch_req_1",
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "req_1"},
        "error": None,
    }
    completion = shaped(ChatCompletion, body)
    assert (completion.id, completion.created, completion.choices[0].message.content) == (
        "chatcmpl-1",
        1_700_000_000,
        "4",
    )
    line = output_line("a", Asked(responses.ENDPOINT, "", "m"), outcome(RESULT), "batch_req_1")
    answered = shaped(Response, line["response"]["body"])
    assert (answered.id, answered.output_text, answered.completed_at) == ("resp_1", "4", 1_700_000_000)


def test_an_error_line_has_the_code_and_the_message_of_the_dead_letter() -> None:
    line = error_line("a", outcome(failure=Failure("RateLimitedError", "slow down")), "batch_req_1")
    error = {"code": "rate_limited", "message": "slow down"}
    assert line == {"id": "batch_req_1", "custom_id": "a", "response": None, "error": error}


@pytest.mark.parametrize("reason", ["batch_expired", "batch_cancelled"])
def test_a_question_without_an_end_has_a_line(reason: batch_lines.Unanswered) -> None:
    line = unanswered_line("a", reason, "batch_req_1")
    assert (line["custom_id"], line["response"], line["error"]["code"]) == ("a", None, reason)


def test_a_line_for_another_outcome_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError):
        output_line("a", Asked(chat.ENDPOINT, "", "m"), outcome(failure=Failure("E", "x")), "batch_req_1")
    with pytest.raises(ValueError):
        error_line("a", outcome(RESULT), "batch_req_1")
