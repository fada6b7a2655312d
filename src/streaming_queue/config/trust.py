"""Settings in a run's directory that act on this machine, and the mark that shows that this user wrote them.

The mark is an HMAC-SHA256 over exactly these settings, by a key that stays in the user's state folder. All calls block.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from streaming_queue.config.backends import sections
from streaming_queue.config.keys import join
from streaming_queue.errors import ConfigError
from streaming_queue.private_files import read_private, state_folder, write_private

RESULT_FILE = "qa.coordinator.result_file"
_KEY_BYTES = 32
_MOST_SHOWN = 1000
_OPTIONS = re.compile(r"workers\[\d+\]\.options")
_COMMAND = re.compile(r"[\x00-\x20]*s\s*t\s*d\s*i\s*o\s*:", re.IGNORECASE)
"""An address that is a command. Blanks are allowed within, because parsers of addresses may drop them."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A setting and its effect: it `starts` a command, `imports` a class or `writes` a file.

    Or it `passes` a tool, arguments or variables to a started command.
    """

    place: str
    does: str
    value: str

    def is_of(self, key: str) -> bool:
        """Whether the setting is the key `key` or a part of its value."""
        return self.place == key or self.place.startswith((f"{key}.", f"{key}["))

    def __str__(self) -> str:
        """The setting for people, on one line, as in the file. Nothing is hidden: a hidden part could do anything."""
        shown, more = repr(self.value[:_MOST_SHOWN]), len(self.value) - _MOST_SHOWN
        return f"{self.place} {self.does} {shown}" + (f" and {more:,} characters more" if more > 0 else "")


class UnmarkedError(ConfigError):
    """A run's settings would have `effects`, and nothing shows that this user wrote them."""

    def __init__(self, message: str = "", *, effects: Sequence[Effect] = (), **more: Any) -> None:
        super().__init__(message, **more)
        self.effects = tuple(effects)

    @classmethod
    def over(cls, effects: Sequence[Effect], path: str) -> Self:
        """The error for settings in the file at `path`."""
        places = ", ".join(effect.place for effect in effects)
        return cls(
            f"{path}: {places}: these settings act on this machine and lack your mark: read them, then "
            "give --trust to follow them",
            effects=effects,
        )


def effects(settings: Mapping[str, Any]) -> list[Effect]:
    """The effects of `settings` on this machine. The settings are by dotted key, or nested as in `run.json`."""
    found = [effect for name, value in settings.items() for effect in _effects(str(name), str(name), value)]
    return found if any(effect.does == "starts" for effect in found) else [e for e in found if e.does != "passes"]


def _effects(place: str, name: str, value: Any) -> Iterator[Effect]:
    if value and _is_passed_on(place):
        yield Effect(place, "passes", value if isinstance(value, str) else json.dumps(value, sort_keys=True))
    elif isinstance(value, Mapping):
        for inner, item in value.items():
            yield from _effects(join(place, str(inner)), str(inner), item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _effects(f"{place}[{index}]", name, item)
    elif isinstance(value, str):
        if place == RESULT_FILE:
            yield Effect(place, "writes", value)
        elif _COMMAND.match(value):
            yield Effect(place, "starts", value)
        elif name == "protocol" and ":" in value:
            yield Effect(place, "imports", value)


def _is_passed_on(place: str) -> bool:
    """Whether the value goes to a command that an address of its protocol starts."""
    where, _, key = place.rpartition(".")
    groups = sections().values() if _OPTIONS.fullmatch(where) else [sections()[where]] if where in sections() else ()
    return any(key in section.passed_on for section in groups)


def mark_of(found: Iterable[Effect]) -> str | None:
    """The mark over these settings, None for no settings. Makes the key if it is missing.

    Raises ConfigError if the key cannot be read or made.
    """
    content = _canonical(found)
    if content is None:
        return None
    path = _key_path()
    key = _key()
    if key is None:
        write_private(path, secrets.token_bytes(_KEY_BYTES), replace=False)
        key = _key()
    if key is None:
        raise ConfigError(f"{path}: was removed as soon as it was made; try again")
    return hmac.digest(key, content, "sha256").hex()


def is_marked(found: Iterable[Effect], mark: object) -> bool:
    """Whether this user made `mark` for exactly these settings. Raises ConfigError if the key cannot be read."""
    content = _canonical(found)
    if content is None:
        return True
    key = _key() if isinstance(mark, str) else None
    return key is not None and hmac.compare_digest(
        hmac.digest(key, content, "sha256").hex().encode(), str(mark).encode("utf-8", "surrogatepass")
    )


def _canonical(found: Iterable[Effect]) -> bytes | None:
    """The settings as JSON: equal settings are equal bytes. None for no settings."""
    listed = sorted([effect.place, effect.does, effect.value] for effect in found)
    return json.dumps(listed, separators=(",", ":")).encode() if listed else None


def _key_path() -> Path:
    return state_folder() / "mark.key"


def _key() -> bytes | None:
    path = _key_path()
    key = read_private(path)
    if key is not None and len(key) != _KEY_BYTES:
        raise ConfigError(f"{path}: is not a key of {_KEY_BYTES} bytes; remove it, then a new key is made")
    return key
