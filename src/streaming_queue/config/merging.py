"""Make one checked model of the settings of several sources. An error names the wrong setting and its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from streaming_queue.config.keys import Keys, Setting, join, kinds
from streaming_queue.config.redaction import SECRET, Display
from streaming_queue.config.section import worded
from streaming_queue.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def merge(layers: Iterable[Iterable[Setting]]) -> dict[str, Setting]:
    """The effective settings, by key. A later layer wins, and in one layer a later setting.

    Raises ConfigError if one layer gives two spellings of a key different values.
    """
    merged: dict[str, Setting] = {}
    for layer in layers:
        spellings: dict[str, Setting] = {}
        for setting in layer:
            other = spellings.setdefault(setting.key, setting)
            if other.spelling != setting.spelling and other.value != setting.value:
                places = " and ".join(dict.fromkeys([other.place, setting.place]))
                raise ConfigError(
                    f"{places}: {other.spelling} and {setting.spelling} are one setting and differ; "
                    f"give only {setting.key}"
                )
            spellings[setting.key] = setting
            for key in [key for key in merged if _overlap(key, setting.key)]:
                del merged[key]
            merged[setting.key] = setting
    return merged


def build(model: type[Model], keys: Keys, merged: Mapping[str, Setting]) -> Model:
    """The model with these settings, defaults elsewhere. Raises ConfigError naming every wrong one."""
    tree: dict[str, Any] = {}
    for key, setting in merged.items():
        *sections, name = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = setting.value
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
    raise ConfigError("; ".join(dict.fromkeys(_problem(keys, merged, problem) for problem in problems)))


def _problem(keys: Keys, merged: Mapping[str, Setting], error: ErrorDetails) -> str:
    key, item = "", ""
    for part in error["loc"]:
        if isinstance(part, int):
            item += f"[{part}]"
        elif join(key, part) in keys.leaves or join(key, part) in keys.branches:
            key = join(key, part)
        elif key in keys.leaves and any(
            get_origin(kind) in {dict, tuple} for kind in kinds(keys.leaves[key].annotation)
        ):
            item += f".{part}"
    text = worded(error["msg"])
    if key not in merged:  # a rule about several keys: its text names them
        named = set(re.findall(r"[\w.]*\w", text))
        places = dict.fromkeys(setting.place for name, setting in merged.items() if name in named)
        return f"{', '.join(places)}: {text}" if places else text
    setting = merged[key]
    if setting.value is None:
        text = "must not be null; leave the key out for its default"
    elif error["type"] == "string_type":
        text = "must be a text; put it in quotes"
    spelling = key + item
    if setting.spelling != key:
        note = keys.aliases[setting.spelling].note
        spelling = f"{setting.spelling} (now {key}{item}{', ' if note else ''}{note})"
    given = SECRET if SecretStr in kinds(keys.leaves[key].annotation) else Display(keys.secrets).repr(setting.given)
    return f"{setting.place}: {spelling}{' ' if text.startswith('must ') else ': '}{text} (given: {given})"


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")
