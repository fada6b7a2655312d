"""Values as other people may see them."""

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
"""What stands before the host in a text that is a URL, blanks and all."""


class Display(reprlib.Repr):
    """Short forms of given values, however deep or long, without secrets: by their looks, their names, `secrets`."""

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


def redacted(value: Any) -> Any:
    """`value` as it may be shown: secrets as `***`, also those within URLs and commands (`masking.masked`)."""
    if isinstance(value, SecretStr):
        return SECRET
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, BaseModel):
        return {name: redacted(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Arguments):
        return {name: _argument(name, item) for name, item in value.items()}
    if isinstance(value, Mapping):
        return {name: redacted(item) for name, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, tuple | list) else value


def hidden(value: Any) -> dict[str, Any]:
    """The texts and numbers of `value` that `redacted` hides, by place (`qa.worker.endpoints[0]`); no SecretStr."""
    return {place: item for place, item, shown in _leaves(value, redacted(value), "") if item != shown or _marked(item)}


def _leaves(value: Any, shown: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, Mapping) and isinstance(shown, Mapping):
        for name, item in value.items():
            yield from _leaves(item, shown[name], f"{place}.{name}" if place else str(name))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _leaves(item, shown[index], f"{place}[{index}]")
    elif not isinstance(value, SecretStr):
        yield place, value, shown


def _marked(item: Any) -> bool:
    """Whether a text seems to hide something and does not: only what was written down tells the two apart."""
    return isinstance(item, str) and SECRET in item


def _text(text: str) -> str:
    return masked(_USER.sub(rf"\1{SECRET}@", text))


def _argument(name: Any, value: Any) -> Any:
    """An argument of a tool, of which only the name may tell that it is a secret."""
    if isinstance(value, Mapping):
        return {inner: _argument(name if is_secret_name(str(name)) else inner, item) for inner, item in value.items()}
    if isinstance(value, tuple | list):
        return [_argument(name, item) for item in value]
    secret = is_secret_name(str(name)) and isinstance(value, str | int | float) and not isinstance(value, bool)
    return SECRET if secret else redacted(value)


def revealed(value: Any) -> Any:
    """`value` with its secrets, fit for JSON: for another process of ours, never for eyes or files."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: revealed(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {name: revealed(item) for name, item in value.items()}
    return [revealed(item) for item in value] if isinstance(value, tuple | list) else value
