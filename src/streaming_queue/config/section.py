"""What all sections share: frozen, strict about keys, read like a mapping; and the kinds of values they hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A frozen group of settings that can be read like a mapping, as in the guide: `config["qa"]["worker"]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)
    other_names: ClassVar[Mapping[str, str]] = {}
    """Further names under which a value can be read."""

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(key)
        return getattr(self, self.other_names.get(key, key))

    def __contains__(self, key: object) -> bool:
        return key in type(self).model_fields or key in self.other_names

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, `default` if there is no such key."""
        return self[key] if key in self else default  # noqa: SIM401 (this is that method)


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 (pydantic collects ValueError only)
    return value


def _url(value: str) -> str:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is no address: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be an address like http://host:port/v1")
    return url


def _path(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    return os.path.expanduser(value)  # noqa: PTH111 (it stays the text that was given)


NotBoolean = BeforeValidator(_number)
Integer = Annotated[int, NotBoolean]
AtLeastOne = Annotated[int, Field(ge=1), NotBoolean]
Port = Annotated[int, Field(ge=0, le=65535), NotBoolean]
Positive = Annotated[float, Field(gt=0), NotBoolean]
NotNegative = Annotated[float, Field(ge=0), NotBoolean]
Text = Annotated[str, Field(min_length=1)]
PathText = Annotated[Text, AfterValidator(_path)]
"""A path, `~` expanded; a relative one counts from the working directory."""
Url = Annotated[str, AfterValidator(_url)]
"""An http or https address; one without a scheme is http."""
