"""Values as other people may see them."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

SECRET = "***"  # noqa: S105 (a secret is what it is not)
"""What stands in place of a secret."""
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")


class Display(reprlib.Repr):
    """Short forms of given values, however deep or long, without the credentials in URLs and what `secrets` name."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self._secrets = secrets

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """As `reprlib` calls it for a mapping."""
        return super().repr_dict({key: SECRET if key in self._secrets else value for key, value in x.items()}, level)

    def repr_str(self, x: str, level: int) -> str:
        """As `reprlib` calls it for a string."""
        return super().repr_str(redacted(x), level)


def redacted(value: Any) -> Any:
    """`value` as it may be shown: a secret as `***`, the credentials in a URL too."""
    if isinstance(value, SecretStr):
        return SECRET
    if isinstance(value, str):
        return _CREDENTIALS.sub("***@", value)
    if isinstance(value, BaseModel):
        return {name: redacted(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {name: redacted(item) for name, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, tuple | list) else value


def revealed(value: Any) -> Any:
    """`value` with its secrets, fit for JSON: for another process of ours, never for eyes or files."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: revealed(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {name: revealed(item) for name, item in value.items()}
    return [revealed(item) for item in value] if isinstance(value, tuple | list) else value
