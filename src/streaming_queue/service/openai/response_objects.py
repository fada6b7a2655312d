"""The answer to `POST /v1/responses`: its object, and the events of its stream. No I/O."""

from __future__ import annotations

from typing import Any

from streaming_queue.messages import Result
from streaming_queue.service.openai.conversation import Asked
from streaming_queue.service.openai.refusals import envelope, refusal
from streaming_queue.service.openai.usage import Tokens
from streaming_queue.telemetry.json_lines import encode


def response(asked: Asked, result: Result, *, id: str, created: float, completed: float) -> dict[str, Any]:  # noqa: A002
    """The object that answers `asked`: `id` is `resp_...`, times are seconds since the epoch.

    Its status is `incomplete` if a limit of tokens ended the answer. Its `usage` is null if the agent stated none.
    """
    tokens = Tokens.of(result.usage)
    document = _response(asked, id, created, "incomplete" if result.truncated else "completed")
    document["output"] = [_item(id, _status(result), [_part(result.answer)])]
    document["completed_at"] = None if result.truncated else int(completed)
    document["incomplete_details"] = {"reason": "max_output_tokens"} if result.truncated else None
    document["usage"] = tokens.as_response() if tokens else None
    return document


def failed_response(asked: Asked, error: BaseException, *, id: str, created: float) -> dict[str, Any]:  # noqa: A002
    """The object for a question without an answer. OpenAI's words leave two codes for it: the message says more."""
    code = "rate_limit_exceeded" if refusal(error).status == 429 else "server_error"
    document = _response(asked, id, created, "failed")
    document["error"] = {"code": code, "message": envelope(error)["error"]["message"]}
    return document


class Events:
    """The events of one streamed answer: `opening`, each `delta`, then `closing`, or `failed` at any time.

    `id` is `resp_...`, `created` seconds since the epoch. The events are numbered in the order of the calls.
    """

    def __init__(self, asked: Asked, id: str, created: float) -> None:  # noqa: A002 (OpenAI's word)
        self._asked = asked
        self._id = id
        self._created = created
        self._number = 0

    def opening(self) -> list[dict[str, Any]]:
        """The events before any text is known; a client builds its answer on them."""
        document = _response(self._asked, self._id, self._created, "in_progress")
        return [
            self._event("response.created", response=document),
            self._event("response.in_progress", response=document),
            self._event("response.output_item.added", output_index=0, item=_item(self._id, "in_progress", [])),
            self._part_event("response.content_part.added", part=_part("")),
        ]

    def delta(self, text: str) -> dict[str, Any]:
        """The event with a piece of the answer."""
        return self._part_event("response.output_text.delta", delta=text, logprobs=[])

    def closing(self, result: Result, completed: float) -> list[dict[str, Any]]:
        """The events of the end; the last one has the whole response. `completed` is seconds since the epoch."""
        document = response(self._asked, result, id=self._id, created=self._created, completed=completed)
        return [
            self._part_event("response.output_text.done", text=result.answer, logprobs=[]),
            self._part_event("response.content_part.done", part=_part(result.answer)),
            self._event("response.output_item.done", output_index=0, item=document["output"][0]),
            self._event(f"response.{document['status']}", response=document),
        ]

    def failed(self, error: BaseException) -> dict[str, Any]:
        """The event that ends the stream of a question without an answer."""
        document = failed_response(self._asked, error, id=self._id, created=self._created)
        return self._event("response.failed", response=document)

    def _part_event(self, kind: str, **members: Any) -> dict[str, Any]:
        return self._event(kind, item_id=_item_id(self._id), output_index=0, content_index=0, **members)

    def _event(self, kind: str, **members: Any) -> dict[str, Any]:
        number, self._number = self._number, self._number + 1
        return {"type": kind, "sequence_number": number, **members}


def event(document: dict[str, Any]) -> bytes:
    """An event of `Events` as a server-sent event with its name; `?` stands for what UTF-8 cannot carry."""
    name: str = document["type"]
    return b"event: " + name.encode() + b"\ndata: " + encode(document) + b"\n\n"


def _response(asked: Asked, id_: str, created: float, status: str) -> dict[str, Any]:
    """The members that no answer changes. What the queue does not decide, such as the temperature, is null."""
    return {
        "id": id_,
        "object": "response",
        "created_at": int(created),
        "completed_at": None,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "metadata": dict(asked.metadata or {}),
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "none",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
    }


def _item(id_: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": _item_id(id_), "type": "message", "role": "assistant", "status": status, "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item_id(id_: str) -> str:
    return f"msg_{id_.removeprefix('resp_')}"


def _status(result: Result) -> str:
    return "incomplete" if result.truncated else "completed"
