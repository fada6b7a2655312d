"""The configuration section of mcp: its keys are keywords of the backend."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from streaming_queue.config.backends import BackendSection
from streaming_queue.config.section import Arguments, Positive, Text


class Mcp(BackendSection):
    """The tool and its arguments, for the protocol mcp. For a null value, the tools' schemas decide."""

    passed_on: ClassVar[frozenset[str]] = frozenset({"tool", "argument", "arguments", "environment"})

    tool: Text | None = None
    """The tool to call. null: the tool that takes one text."""
    argument: Text | None = None
    """The tool's argument that takes the question. null: by the tool's schema."""
    arguments: Annotated[dict[str, Any], AfterValidator(Arguments)] = Field({}, validate_default=True)
    """Values of the tool's other arguments, the same in every call."""
    version: Literal["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] = "2026-07-28"
    """The newest revision of MCP to offer to a server."""
    environment: tuple[Text, ...] = ()
    """Names of further environment variables for servers that a command starts."""
    start_timeout_s: Positive = 60.0
    """Longest time until the first answer of a server that a command starts, in seconds."""
