"""The configuration section of mcp: its keys are keywords of the backend."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from streaming_queue.config.backends import BackendSection
from streaming_queue.config.section import Arguments, Positive, Text


class Mcp(BackendSection):
    """What is asked of a server of tools, for the protocol mcp. What is null is found by the tools' own schemas."""

    passed_on: ClassVar[frozenset[str]] = frozenset({"tool", "argument", "arguments", "environment"})

    tool: Text | None = Field(None, description="The tool to call.")
    argument: Text | None = Field(None, description="The argument of it that takes the question.")
    arguments: Annotated[dict[str, Any], AfterValidator(Arguments)] = Field(
        {}, validate_default=True, description="What its other arguments are given, the same in every call."
    )
    version: Literal["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] = Field(
        "2026-07-28", description="The newest revision of MCP that is offered to a server."
    )
    environment: tuple[Text, ...] = Field(
        (), description="Names of variables that a server gets which a command starts, beside the usual ones."
    )
    start_timeout_s: Positive = Field(
        60.0, description="How long a server that a command starts may take until it answers, in seconds."
    )
