from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from openai.types import responses as official
from openai.types.responses import Response
from unit.service.openai.shapes import TEXTS, shaped

from streaming_queue.errors import QueueFullError, StreamingQueueError
from streaming_queue.messages import Failure, Result
from streaming_queue.service.openai import responses
from streaming_queue.service.openai.conversation import Asked
from streaming_queue.service.openai.refusals import no_answer
from streaming_queue.service.openai.response_objects import Events, event, failed_response, response

ASKED = Asked(responses.ENDPOINT, "q", "m", metadata={"a": "b"}, instructions="Be short.")
USAGE = {"input_tokens": 3, "output_tokens": 4}
MODELS = {
    "response.created": official.ResponseCreatedEvent,
    "response.in_progress": official.ResponseInProgressEvent,
    "response.output_item.added": official.ResponseOutputItemAddedEvent,
    "response.content_part.added": official.ResponseContentPartAddedEvent,
    "response.output_text.delta": official.ResponseTextDeltaEvent,
    "response.output_text.done": official.ResponseTextDoneEvent,
    "response.content_part.done": official.ResponseContentPartDoneEvent,
    "response.output_item.done": official.ResponseOutputItemDoneEvent,
    "response.completed": official.ResponseCompletedEvent,
    "response.incomplete": official.ResponseIncompleteEvent,
    "response.failed": official.ResponseFailedEvent,
}


def parsed(document: dict[str, Any]) -> Any:
    return shaped(MODELS[document["type"]], document)


def result(*, truncated: bool = False, usage: dict[str, int] | None = None) -> Result:
    return Result("42", "w", "p", 1.0, usage=usage, truncated=truncated)


def test_the_response() -> None:
    found = shaped(Response, response(ASKED, result(usage=USAGE), id="resp_1", created=1.9, completed=3.9))
    assert (found.id, found.created_at, found.completed_at, found.model) == ("resp_1", 1, 3, "m")
    assert (found.status, found.output_text, found.output[0].id) == ("completed", "42", "msg_1")
    assert (found.instructions, found.metadata) == ("Be short.", {"a": "b"})
    assert found.usage
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens) == (3, 4, 7)


def test_an_unknown_usage_is_null() -> None:
    assert shaped(Response, response(ASKED, result(), id="resp_1", created=1, completed=2)).usage is None


def test_a_truncated_answer_is_incomplete() -> None:
    found = shaped(Response, response(ASKED, result(truncated=True), id="resp_1", created=1, completed=2))
    assert found.incomplete_details
    assert (found.status, found.incomplete_details.reason, found.completed_at) == (
        "incomplete",
        "max_output_tokens",
        None,
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (no_answer(Failure("AuthError", "why")), "server_error"),
        (QueueFullError("why"), "rate_limit_exceeded"),
        (StreamingQueueError("why"), "server_error"),
    ],
)
def test_a_failed_response(error: Exception, code: str) -> None:
    found = shaped(Response, failed_response(ASKED, error, id="resp_1", created=1))
    assert found.error
    assert (found.status, found.error.code) == ("failed", code)
    assert "why" in found.error.message


def test_an_error_of_others_keeps_its_text() -> None:
    assert "password" not in str(failed_response(ASKED, ValueError("password"), id="resp_1", created=1))


@pytest.mark.parametrize(("truncated", "end"), [(False, "response.completed"), (True, "response.incomplete")])
def test_the_events(truncated: bool, end: str) -> None:
    events = Events(ASKED, "resp_1", 1.0)
    documents = [
        *events.opening(),
        events.delta("4"),
        events.delta("2"),
        *events.closing(result(truncated=truncated), 3.0),
    ]
    told = [parsed(document) for document in documents]
    assert [each.type for each in told] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        end,
    ]
    assert [each.sequence_number for each in told] == list(range(10))
    assert told[-1].response.output_text == "42"
    assert {each.item_id for each in told if hasattr(each, "item_id")} == {"msg_1"}


def test_a_stream_can_fail_at_any_time() -> None:
    events = Events(ASKED, "resp_1", 1.0)
    opening = events.opening()
    failed = parsed(events.failed(QueueFullError("why")))
    assert failed.sequence_number == len(opening)
    assert failed.response.id == "resp_1"


def test_the_wire_form_of_an_event() -> None:
    document = Events(ASKED, "resp_1", 1.0).delta("ü\n")
    name, data, *rest = event(document).decode().split("\n")
    assert name == "event: response.output_text.delta"
    assert json.loads(data.removeprefix("data: ")) == document
    assert rest == ["", ""]


@given(TEXTS)
def test_any_piece_of_an_answer_is_one_event(text: str) -> None:
    events = Events(ASKED, "resp_1", 1.0)
    for document in (events.delta(text), *events.closing(Result(text, "w", "p", 1.0), 2.0)):
        name, data, *rest = event(document).split(b"\n")
        assert name == b"event: " + document["type"].encode()
        parsed(json.loads(data.removeprefix(b"data: ")))
        assert rest == [b"", b""]
