"""Chooses the tool and its argument for the question: by the configuration, else by the schemas."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.mcp.dialect import PARAM_HEADER

USUAL_NAMES = ("question", "query", "prompt", "text", "input", "message")
"""Usual names of the argument for a question."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Choice:
    """The configuration: the tool, its argument for the question, and its other arguments."""

    tool: str | None = None
    argument: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.argument is not None and self.argument in self.arguments:
            raise ConfigError(f"mcp.arguments has {self.argument!r}, but mcp.argument uses it for the question")


@dataclass(frozen=True, slots=True)
class Tool:
    """A usable tool. `mirrored` are the arguments that HTTP headers repeat, by their path."""

    name: str
    argument: str
    mirrored: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def headers(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """The headers of a call with these arguments (2026-07-28, transports, "Custom Headers")."""
        headers = {}
        for path, name in self.mirrored.items():
            value: Any = arguments
            for key in path:
                value = value.get(key) if isinstance(value, Mapping) else None
            if isinstance(value, bool):
                value = "true" if value else "false"
            if isinstance(value, str | int):
                headers[PARAM_HEADER + name] = header_value(str(value))
        return headers


def header_value(value: str) -> str:
    """A text for a header; in marked base64 if a header cannot carry it unchanged."""
    plain = value.isascii() and value.isprintable() and value == value.strip()
    if plain and not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    return f"=?base64?{base64.b64encode(value.encode('utf-8', 'replace')).decode()}?="


def choose(listed: Sequence[Any], choice: Choice, address: str) -> Tool:
    """Choose a tool from a server's list.

    Raises ConfigError, with the tools and the key to set, if no tool or more than one fits.
    """
    tools = [tool for tool in listed if isinstance(tool, dict) and isinstance(tool.get("name"), str)]
    if choice.tool is not None:
        tools = [tool for tool in tools if tool["name"] == choice.tool]
        if not tools:
            raise ConfigError(f"{address}: no tool {choice.tool!r} (mcp.tool); it has {_shown(listed)}")
    fit = [(tool, names[0]) for tool in tools if len(names := _arguments(tool, choice)) == 1]
    if len(fit) == 1:
        tool, argument = fit[0]
        return Tool(tool["name"], argument, _mirrored(tool.get("inputSchema")))
    if len(tools) == 1:
        key = "argument" if choice.argument is None else "argument and mcp.arguments"
        raise ConfigError(
            f"{address}: it is not clear which argument of {_shown(tools)} takes the question: "
            f"set mcp.{key}; set its other arguments in mcp.arguments"
        )
    raise ConfigError(
        f"{address}: {'more than one tool' if fit else 'no tool'} takes just one text: "
        f"set mcp.tool (and mcp.argument); it has {_shown(listed)}"
    )


def _arguments(tool: Mapping[str, Any], choice: Choice) -> list[str]:
    """The arguments that may take the question; none if another required argument would be missing."""
    properties, required = _schema(tool)
    open_names = [name for name in required if name not in choice.arguments]
    if choice.argument is not None:
        known = choice.argument in properties or not properties
        return [choice.argument] if known and set(open_names) <= {choice.argument} else []
    texts = [name for name, schema in properties.items() if _takes_text(schema) and name not in choice.arguments]
    if len(open_names) == 1:
        return [name for name in open_names if name in texts]
    if open_names:
        return []
    usual = [name for name in USUAL_NAMES if name in texts]
    return usual or texts


def _schema(tool: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    schema = tool.get("inputSchema")
    schema = schema if isinstance(schema, dict) else {}
    properties, required = schema.get("properties"), schema.get("required")
    return (
        properties if isinstance(properties, dict) else {},
        [name for name in required if isinstance(name, str)] if isinstance(required, list) else [],
    )


def _takes_text(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return schema is True
    kind = schema.get("type")
    if kind is None:
        either = schema.get("anyOf") or schema.get("oneOf")
        return not either or (isinstance(either, list) and any(_takes_text(one) for one in either))
    return kind == "string" or (isinstance(kind, list) and "string" in kind)


def _shown(tools: Sequence[Any]) -> str:
    """The tools and their arguments, for people: `ask(question), add(a, b)`."""
    shown = [
        f"{str(tool.get('name'))[:60]}({', '.join(str(name)[:40] for name in list(_schema(tool)[0])[:10])})"
        for tool in tools[:20]
        if isinstance(tool, dict)
    ]
    return ascii(", ".join(shown))[1:-1] or "none"


def _mirrored(schema: Any) -> dict[tuple[str, ...], str]:
    """The arguments marked `x-mcp-header`, by path; none if a mark in the schema is not a header name."""
    found = dict(_marks(schema, ()))
    return found if all(_TOKEN.fullmatch(name) for name in found.values()) else {}


def _marks(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or len(path) > 8:
        return
    for name, inner in properties.items():
        if isinstance(inner, dict):
            if isinstance(mark := inner.get("x-mcp-header"), str):
                yield (*path, name), mark
            yield from _marks(inner, (*path, name))
