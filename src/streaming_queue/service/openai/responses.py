"""`POST /v1/responses`: its body -> the question. `response_objects` builds the answer. No I/O."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Discriminator, Field, Tag

from streaming_queue.service.openai.conversation import Asked, Endpoint, Message, MessageRules, question_text
from streaming_queue.service.openai.parameters import (
    Metadata,
    ModelName,
    Parameters,
    Strict,
    Text,
    an_object,
    refuse,
    validated,
)

ENDPOINT: Final[Endpoint] = "/v1/responses"
_PLAIN = {"type": "text"}
PARAMETERS = Parameters(
    honoured=frozenset({"input", "instructions", "metadata", "model", "stream"}),
    neutral={
        "background": (False,),
        "context_management": ([],),
        "include": ([],),
        "parallel_tool_calls": (True, False),
        "reasoning": ({},),
        "service_tier": ("auto", "default"),
        "store": (False,),
        "stream_options": ({}, {"include_obfuscation": False}),
        "temperature": (1,),
        "text": ({}, {"format": _PLAIN}, {"verbosity": "medium"}, {"format": _PLAIN, "verbosity": "medium"}),
        "tool_choice": ("none", "auto"),
        "tools": ([],),
        "top_logprobs": (0,),
        "top_p": (1,),
        "truncation": ("disabled",),
    },
    refused=frozenset(
        {
            "access_programs",
            "background_options",
            "conversation",
            "image",
            "max_output_tokens",
            "max_tool_calls",
            "moderation",
            "previous_response_id",
            "prompt",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "user",
        }
    ),
)
_MESSAGES = MessageRules(
    # An answer comes back as the item that it was: `id` and `status` belong to it and say nothing to the agent.
    Parameters(frozenset({"role", "content", "type", "id", "status"}), refused=frozenset({"phase"})),
    Parameters(
        frozenset({"type", "text"}),
        {"annotations": ([],), "logprobs": ([],)},
        frozenset({"prompt_cache_breakpoint"}),
    ),
    ("input_text", "output_text"),
)


class _Item(Message):
    id: Text | None = None
    status: Text | None = None


def _kind(value: object) -> str:
    return "<text>" if isinstance(value, str) else "<items>"


class _Body(Strict):
    input: Annotated[
        Annotated[Text, Tag("<text>")] | Annotated[list[_Item], Field(min_length=1), Tag("<items>")],
        Discriminator(_kind),
    ]
    model: ModelName
    instructions: Text | None = None
    stream: bool | None = None
    metadata: Metadata | None = None


def read(body: object) -> Asked:
    """The question that a body asks. Raises InvalidRequestError, also as TooLargeError, and nothing else.

    One error names all parameters that are not supported. `instructions` become the first turn of the conversation.
    """
    document = an_object(body)
    refuse([*PARAMETERS.offending(document), *_MESSAGES.offending(document.get("input"), "input")])
    request = validated(_Body, document)
    given = request.input
    messages = [Message(role="user", content=given)] if isinstance(given, str) else given
    return Asked(
        ENDPOINT,
        question_text(messages, "input", request.instructions),
        request.model,
        stream=bool(request.stream),
        metadata=request.metadata,
        instructions=request.instructions,
    )
