"""The lines of a batch: an input line -> the question, and a row -> a line of the output or the error file. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from streaming_queue.comm import strict_json
from streaming_queue.messages import Outcome
from streaming_queue.service.openai import chat, responses
from streaming_queue.service.openai.chat import completion
from streaming_queue.service.openai.conversation import Asked, Endpoint
from streaming_queue.service.openai.parameters import Parameters, Strict, Text, an_object, refuse, validated
from streaming_queue.service.openai.refusals import InvalidRequestError, envelope, error_code, failure_code
from streaming_queue.service.openai.response_objects import response

_MEMBERS = Parameters(frozenset({"custom_id", "method", "url", "body"}))
_READ: Final = {chat.ENDPOINT: chat.read, responses.ENDPOINT: responses.read}
MAX_CUSTOM_ID = 512
"""The limit for a `custom_id`, in characters."""

Unanswered = Literal["batch_expired", "batch_cancelled"]
"""Why a line of a batch has no answer and did not fail."""
_UNANSWERED: dict[Unanswered, str] = {
    "batch_expired": "the batch expired before this request was answered",
    "batch_cancelled": "the batch was cancelled before this request was answered",
}


@dataclass(frozen=True, slots=True)
class LineError:
    """An input line that is refused: its `number`, counted from 1, and why. `custom_id` is None if it has none."""

    number: int
    error: InvalidRequestError
    custom_id: str | None = None

    @property
    def detail(self) -> dict[str, Any]:
        """The entry of `errors.data` in a failed batch."""
        told = envelope(self.error)["error"]
        return {"code": told["code"], "line": self.number, "message": told["message"], "param": told["param"]}

    def line(self, line_id: str) -> dict[str, Any]:
        """The line of the error file."""
        return _line(line_id, self.custom_id, error={"code": error_code(self.error), "message": str(self.error)})


class _Line(Strict):
    custom_id: Annotated[Text, Field(min_length=1, max_length=MAX_CUSTOM_ID)]
    method: Literal["POST"]
    url: Endpoint
    body: dict[str, Any]


def read_line(line: bytes | str, number: int, endpoint: Endpoint | None = None) -> tuple[str, Asked] | LineError:
    """The `custom_id` and the question of one input line, or why it is refused; it raises nothing.

    `number` counts the lines from 1. `endpoint` is the batch's: a line with another `url` is refused. The caller finds
    a `custom_id` that was used before.
    """
    custom_id = None
    try:
        document = an_object(_json(line), "the line")
        custom_id = _usable(document.get("custom_id"))
        refuse(_MEMBERS.offending(document))
        request = validated(_Line, document)
        if endpoint is not None and request.url != endpoint:
            raise InvalidRequestError(f"url must be the batch's, {endpoint}", param="url", reason="mismatched_endpoint")
        asked = _READ[request.url](request.body)
        if asked.stream:
            raise InvalidRequestError("a line of a batch has no stream", param="stream", reason="invalid_value")
    except InvalidRequestError as error:
        return LineError(number, error, custom_id)
    return request.custom_id, asked


def output_line(custom_id: str, asked: Asked, outcome: Outcome, line_id: str) -> dict[str, Any]:
    """The line of the output file for an answered question: `line_id` is `batch_req_...`, and the other ids follow it.

    `asked` is what `read_line` returned; its text is not used. The time of the answer is the outcome's.
    Raises ValueError if the outcome has no answer.
    """
    if outcome.result is None:
        raise ValueError("the question has no answer")
    suffix, ended = line_id.removeprefix("batch_req_"), outcome.settled_at
    if asked.endpoint == chat.ENDPOINT:
        body = completion(asked, outcome.result, id=f"chatcmpl-{suffix}", created=ended)
    else:
        body = response(asked, outcome.result, id=f"resp_{suffix}", created=ended, completed=ended)
    return _line(line_id, custom_id, response={"status_code": 200, "request_id": f"req_{suffix}", "body": body})


def error_line(custom_id: str, outcome: Outcome, line_id: str) -> dict[str, Any]:
    """The line of the error file for a dead letter: the code and the message of its failure.

    Raises ValueError if the outcome has no failure.
    """
    if outcome.failure is None:
        raise ValueError("the question did not fail")
    error = {"code": failure_code(outcome.failure), "message": outcome.failure.message}
    return _line(line_id, custom_id, error=error)


def unanswered_line(custom_id: str, reason: Unanswered, line_id: str) -> dict[str, Any]:
    """The line of the error file for a question that had no end when its batch ended."""
    return _line(line_id, custom_id, error={"code": reason, "message": _UNANSWERED[reason]})


def _line(
    line_id: str,
    custom_id: str | None,
    *,
    response: dict[str, Any] | None = None,
    error: dict[str, str] | None = None,
) -> dict[str, Any]:
    return {"id": line_id, "custom_id": custom_id, "response": response, "error": error}


def _json(line: bytes | str) -> Any:
    try:
        return strict_json.loads(line if isinstance(line, bytes) else line.encode())
    except (ValueError, RecursionError) as error:  # also a text that UTF-8 cannot hold
        raise InvalidRequestError("the line is not valid JSON within bounds", reason="invalid_json_line") from error


def _usable(custom_id: object) -> str | None:
    """A `custom_id` that an error file can repeat."""
    return custom_id if isinstance(custom_id, str) and 0 < len(custom_id) <= MAX_CUSTOM_ID else None
