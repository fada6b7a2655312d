"""Values without their secrets, for other people."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from streaming_queue.config.section import Arguments
from streaming_queue.masking import SECRET, is_secret_name, masked, masked_input

__all__ = ["SECRET", "Display", "hidden", "redacted", "revealed"]

_USER = re.compile(r"\A(\s*[\w+.-]+://)[^/?#]*@")
"""The user part of a URL, with blanks before the URL."""


class Display(reprlib.Repr):
    """Short forms of values of any depth and length.

    Secrets are hidden: by their form, by their names, and if they are in `secrets`.
    """

    def __init__(self, secrets: Collection[str] = ()) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self._secrets = secrets

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """As `reprlib` calls it for a mapping."""
        hidden = {key: SECRET if key in self._secrets or is_secret_name(str(key)) else x[key] for key in x}
        return super().repr_dict(hidden, level)

    def repr_str(self, x: str, level: int) -> str:
        """As `reprlib` calls it for a string."""
        return super().repr_str(masked_input(_text(x)), level)


def redacted(value: Any, argument: str = "") -> Any:
    """`value` fit to be shown: secrets as `***`, also those within URLs and commands (`masking.masked`).

    `argument` is the name of a tool's argument, if `value` is in one: only the name shows that such a value is secret.
    """
    if isinstance(value, SecretStr):
        return SECRET
    secret = is_secret_name(argument)
    if isinstance(value, BaseModel | Mapping):
        named = bool(argument) or isinstance(value, Arguments)
        return {
            name: redacted(item, argument if secret or not named else str(name)) for name, item in dict(value).items()
        }
    if isinstance(value, tuple | list):
        return [redacted(item, argument) for item in value]
    if secret and isinstance(value, str | int | float) and not isinstance(value, bool):
        return SECRET
    return _text(value) if isinstance(value, str) else value


def hidden(value: Any) -> dict[str, Any]:
    """The texts and numbers in `value` that `redacted` hides, by place. SecretStr values are left out."""
    pairs = zip(leaves(value), leaves(redacted(value)), strict=True)
    found = ((place, item) for (place, item), (_, shown) in pairs if item != shown or is_hidden(item))
    return {place: item for place, item in found if not isinstance(item, SecretStr)}


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The values in `value` that hold no others, by place, as `qa.worker.endpoints[0]`."""
    if isinstance(value, BaseModel | Mapping):
        for name, item in dict(value).items():
            yield from leaves(item, f"{place}.{name}" if place else str(name))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{place}[{index}]")
    else:
        yield place, value


def is_hidden(item: Any) -> bool:
    """Whether a text contains `***`. The original may contain it too: only the kept values show the difference."""
    return isinstance(item, str) and SECRET in item


def _text(text: str) -> str:
    return masked(_USER.sub(rf"\1{SECRET}@", text))


def revealed(value: Any) -> Any:
    """`value` with its secrets, fit for JSON. Only for another process of ours, never for people or files."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel | Mapping):
        return {name: revealed(item) for name, item in dict(value).items()}
    return [revealed(item) for item in value] if isinstance(value, tuple | list) else value
