"""`POST /v1/chat/completions`: its body -> the question, and the answer -> its object or its chunks. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field

from streaming_queue.messages import Result
from streaming_queue.service.openai.conversation import Asked, Endpoint, Message, MessageRules, question_text
from streaming_queue.service.openai.parameters import (
    Metadata,
    ModelName,
    Parameters,
    StreamOptions,
    Strict,
    an_object,
    refuse,
    validated,
)
from streaming_queue.service.openai.refusals import InvalidRequestError
from streaming_queue.service.openai.usage import Tokens
from streaming_queue.telemetry.json_lines import encode

ENDPOINT: Final[Endpoint] = "/v1/chat/completions"
PARAMETERS = Parameters(
    honoured=frozenset({"messages", "model", "stream", "stream_options", "metadata"}),
    neutral={
        "frequency_penalty": (0,),
        "function_call": ("none", "auto"),
        "functions": ([],),
        "logit_bias": ({},),
        "logprobs": (False,),
        "modalities": (["text"],),
        "n": (1,),
        "parallel_tool_calls": (True, False),
        "presence_penalty": (0,),
        "response_format": ({"type": "text"},),
        "service_tier": ("auto", "default"),
        "stop": ([],),
        "store": (False,),
        "temperature": (1,),
        "tool_choice": ("none", "auto"),
        "tools": ([],),
        "top_logprobs": (0,),
        "top_p": (1,),
        "verbosity": ("medium",),
    },
    refused=frozenset(
        {
            "audio",
            "max_completion_tokens",
            "max_tokens",
            "moderation",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "reasoning_effort",
            "safety_identifier",
            "seed",
            "user",
            "web_search_options",
        }
    ),
)
_STREAM_OPTIONS = Parameters(frozenset({"include_usage"}), {"include_obfuscation": (False,)})
_MESSAGES = MessageRules(
    # An assistant's message comes back as its object: its members without content are left in.
    Parameters(
        frozenset({"role", "content"}),
        {"annotations": ([],), "tool_calls": ([],)},
        frozenset({"audio", "function_call", "name", "refusal", "tool_call_id"}),
    ),
    Parameters(frozenset({"type", "text"}), refused=frozenset({"prompt_cache_breakpoint"})),
    ("text",),
)


class _Body(Strict):
    messages: Annotated[list[Message], Field(min_length=1)]
    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None


def read(body: object) -> Asked:
    """The question that a body asks. Raises InvalidRequestError, also as TooLargeError, and nothing else.

    One error names all parameters that are not supported.
    """
    document = an_object(body)
    options = document.get("stream_options")
    refuse(
        [
            *PARAMETERS.offending(document),
            *(_STREAM_OPTIONS.offending(options, "stream_options.") if isinstance(options, dict) else ()),
            *_MESSAGES.offending(document.get("messages"), "messages"),
        ]
    )
    request = validated(_Body, document)
    if request.stream_options and not request.stream:
        raise InvalidRequestError("stream_options needs stream: true", param="stream_options", reason="invalid_value")
    return Asked(
        ENDPOINT,
        question_text(request.messages, "messages"),
        request.model,
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
        metadata=request.metadata,
    )


def completion(asked: Asked, result: Result, *, id: str, created: float) -> dict[str, Any]:  # noqa: A002 (OpenAI's word)
    """The object that answers `asked`: `id` is `chatcmpl-...`, `created` seconds since the epoch.

    It has no `usage` if the agent did not state one: zeros would be a claim.
    """
    message: dict[str, Any] = {"role": "assistant", "content": result.answer, "refusal": None, "annotations": []}
    document: dict[str, Any] = {
        "id": id,
        "object": "chat.completion",
        "created": int(created),
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(result)}],
    }
    if asked.metadata is not None:
        document["metadata"] = dict(asked.metadata)
    if tokens := Tokens.of(result.usage):
        document["usage"] = tokens.as_chat()
    return document


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of one streamed answer, in this order: `opening`, each `delta`, `closing`, then `DONE` on the wire.

    `id` is `chatcmpl-...`, `created` seconds since the epoch.
    """

    asked: Asked
    id: str
    created: float

    def opening(self) -> dict[str, Any]:
        """The first chunk: the role, before any text is known."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def delta(self, text: str) -> dict[str, Any]:
        """A chunk with a piece of the answer."""
        return self._chunk({"content": text})

    def closing(self, result: Result) -> list[dict[str, Any]]:
        """The last chunks: the reason of the end, and the usage if the caller asked for it and the agent stated it."""
        end = self._chunk({}, _finish(result))
        tokens = Tokens.of(result.usage) if self.asked.include_usage else None
        return [end, self._head() | {"choices": [], "usage": tokens.as_chat()}] if tokens else [end]

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        # With `include_usage`, the usage of the other chunks is null by the specification.
        return self._head() | {"choices": [choice]} | ({"usage": None} if self.asked.include_usage else {})

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": int(self.created),
            "model": self.asked.model,
        }


DONE: Final = b"data: [DONE]\n\n"
"""The end of the stream. A stream that failed ends with the event of `refusals.envelope` instead of the closing."""


def event(document: dict[str, Any]) -> bytes:
    """A chunk or an error envelope as a server-sent event; `?` stands for what UTF-8 cannot carry."""
    return b"data: " + encode(document) + b"\n\n"


def _finish(result: Result) -> str:
    return "length" if result.truncated else "stop"
