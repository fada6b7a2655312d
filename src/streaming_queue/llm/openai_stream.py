"""The text of a stream of chat completion chunks, and the check of its end."""

from __future__ import annotations

from typing import Any

from streaming_queue.errors import BadResponseError


class ChunkReader:
    """Reads the chunks of one answer. The SDK checks no types: a server may send anything."""

    def __init__(self) -> None:
        self.usage: dict[str, Any] | None = None
        """The token counts, None until they come."""
        self._chunks = 0
        self._has_text = False
        self._finish: str | None = None
        self._ended = False
        self._refusal = ""

    @property
    def truncated(self) -> bool:
        """Whether the limit of tokens ended the answer."""
        return self._finish == "length"

    def text(self, chunk: Any) -> str:
        """The chunk's text, often empty. Raises BadResponseError if it is no chat completion chunk."""
        choices = getattr(chunk, "choices", None)
        if not isinstance(choices, list):
            raise BadResponseError("the stream is malformed: an event is no chat completion chunk")
        self._chunks += 1
        usage = getattr(chunk, "usage", None)
        if usage is not None and hasattr(usage, "model_dump"):
            self.usage = usage.model_dump(mode="json", exclude_none=True, warnings=False)
        if not choices:
            self._ended = self._ended or usage is not None
            return ""
        delta = getattr(choices[0], "delta", None)
        text = getattr(delta, "content", None) or ""
        refusal = getattr(delta, "refusal", None) or ""
        if not isinstance(text, str) or not isinstance(refusal, str):
            raise BadResponseError("the stream is malformed: an event's content is no text")
        finish = getattr(choices[0], "finish_reason", None)
        if finish:
            self._finish, self._ended = str(finish), True
        self._refusal += refusal
        self._has_text = self._has_text or bool(text)
        return text

    def finish(self, content_type: str, max_tokens: int | None) -> None:
        """Check the ended stream; `content_type` is the response's.

        Raises:
            BadResponseError: there was no stream, it was cut off, or it had no text; not retryable if the model would
                end in the same way again.
        """
        if not self._chunks:
            if content_type.startswith("text/event-stream"):
                raise BadResponseError("the stream is empty")
            raise BadResponseError(f"200 with {content_type}, no event stream; the base URL usually ends in /v1")
        if not self._ended:
            # Without this check, an answer cut off at a regular end of the HTTP body would pass as whole.
            raise BadResponseError("the stream ended before the answer did (neither finish_reason nor usage came)")
        if self._has_text:
            return
        if self._refusal:
            raise BadResponseError(f"the model refused: {self._refusal}", retryable=False)
        if self._finish == "content_filter":
            raise BadResponseError("the content filter left no text", retryable=False)
        if self._finish == "length":
            limit = f" (core.max_tokens is {max_tokens})" if max_tokens else ""
            raise BadResponseError(f"the limit of tokens was reached before any text{limit}", retryable=False)
        raise BadResponseError(f"the answer is empty (finish_reason {self._finish or 'missing'})")
