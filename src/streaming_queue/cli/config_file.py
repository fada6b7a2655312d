"""The configuration as files: a commented YAML file of the defaults, and the JSON Schema."""

from __future__ import annotations

import textwrap
from typing import Any

import yaml

from streaming_queue.config import KEYS, Config
from streaming_queue.config.redaction import redacted
from streaming_queue.config.section import Section


def one_line(value: Any) -> str:
    """A plain value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=2**31)
    return text.removesuffix("\n").removesuffix("\n...")


def default_file() -> str:
    """A YAML file with each key, its default and its meaning. It loads to exactly the defaults."""
    lines = ["# Settings of AgentNetwork Streaming Queue. All keys are optional; these are the defaults."]
    _write(Config(), "", lines)
    return "\n".join(lines) + "\n"


def _write(section: Section, indent: str, lines: list[str]) -> None:
    for name, description in type(section).descriptions().items():
        value = getattr(section, name)
        if isinstance(value, Section):
            if not indent:
                lines.append("")
            lines.append(f"{indent}# {(type(value).__doc__ or '').splitlines()[0]}")
            lines.append(f"{indent}{name}:")
            _write(value, f"{indent}  ", lines)
        else:
            start = f"{indent}# "
            lines += textwrap.wrap(description, 100, initial_indent=start, subsequent_indent=start)
            lines.append(f"{indent}{name}: {one_line(redacted(value))}")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file, older spellings included and marked as deprecated."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    definitions = schema["$defs"]
    for spelling, alias in KEYS.aliases.items():
        *sections, name = spelling.split(".")
        place = schema
        for section in sections:
            below = place["properties"].setdefault(
                section, {"type": "object", "properties": {}, "additionalProperties": False}
            )
            place = _resolve(below, definitions)
        target = schema
        for section in alias.key.split("."):
            target = _resolve(target, definitions)["properties"][section]
        if alias.note:  # a value that is converted has other bounds
            target = {"type": target["type"]}
        note = f", {alias.note}" if alias.note else ""
        place["properties"][name] = {
            key: value for key, value in target.items() if key not in {"default", "description", "title"}
        } | {"description": f"Another spelling of {alias.key}{note}.", "deprecated": True}
    return schema


def _resolve(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found
