"""The base of all sections (frozen, strict about keys, read like a mapping), and the types of their values."""

from __future__ import annotations

import ast
import difflib
import inspect
import os
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
)

Value = TypeVar("Value")
Model = TypeVar("Model", bound=BaseModel)


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

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """The meaning of each key: the docstring below it, or the description of its field. Reads source files."""
        found = {name: field.description or "" for name, field in cls.model_fields.items()}
        for section in cls.__mro__[: cls.__mro__.index(Section)]:
            with suppress(OSError):  # a class from `create_model` has no source
                (parsed,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
                found |= _docstrings(parsed, found)
        return found

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The JSON Schema, with the descriptions. pydantic would add them at every start of a process."""
        made = handler(schema)
        for name, text in cls.descriptions().items():
            if text:
                handler.resolve_ref_schema(made)["properties"][name]["description"] = text
        return made

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, `default` if there is no such key."""
        return self[key] if key in self else default  # noqa: SIM401 (this is that method)


def _docstrings(parsed: ast.AST, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """The attributes of `names` in a parsed class, each with its docstring."""
    for attribute, docstring in pairwise(getattr(parsed, "body", ())):
        match attribute, docstring:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                if name in names:
                    yield name, " ".join(text.split())


class ByName(dict[str, Value]):
    """Values by name, hashable as all settings are."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


class Arguments(dict[str, Any]):
    """Arguments of a tool by name; hashable, because sections are. The names decide which values are secrets."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))


def worded(message: str) -> str:
    """The message of pydantic about a value, in the words of our errors."""
    return re.sub(r"^(Input|String|Tuple|List) should ", "must ", message.removeprefix("Value error, "))


def refuse_unknown(subject: str, given: Iterable[Any], known: Iterable[str]) -> None:
    """Raise ValueError, which names the nearest known key, for a key of `subject` that is not `known`."""
    names = list(known)
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
            raise ValueError(f"{subject} has the unknown key {key!r}; {hint}")


def values_given(model: type[BaseModel], subject: str, given: Any) -> dict[str, Any]:
    """The values of a `model` that `given` names, and no others; each as the model has it.

    Raises ValueError with `subject`, the key and the problem in its text.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{subject} must be a mapping of keys")  # noqa: TRY004 (pydantic collects ValueError only)
    refuse_unknown(subject, given, model.model_fields)
    checked = checked_by(model, subject, given)
    return {name: getattr(checked, name) for name in model.model_fields if name in checked.model_fields_set}


def checked_by(model: type[Model], subject: str, values: Mapping[str, Any]) -> Model:
    """The model with these values. Raises ValueError with `subject`, the key and the problem in its text."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    messages = (f"{'.'.join([subject, *map(str, problem['loc'])])}: {worded(problem['msg'])}" for problem in problems)
    raise ValueError("; ".join(messages).replace(": must ", " must "))


def listed(expected: str, *, length: int | None = None, **schema: Any) -> BeforeValidator:
    """A check that a value is a list, of `length` items if given; `expected` completes the error "must be ..."."""

    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple) or length not in {None, len(value)}:
            raise ValueError(f"must be {expected}")
        return value

    return BeforeValidator(check, **schema)


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 (pydantic collects ValueError only)
    return value


def _url(value: str) -> str:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text may quote a password
        raise ValueError("is not an address: its host or port cannot be read") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be an address like http://host:port/v1")
    return url


def _path(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    return os.path.expanduser(value)  # noqa: PTH111 (the text itself stays as given)


NotBoolean = BeforeValidator(_number)
Integer = Annotated[int, NotBoolean]
AtLeastOne = Annotated[int, Field(ge=1), NotBoolean]
Port = Annotated[int, Field(ge=0, le=65535), NotBoolean]
Positive = Annotated[float, Field(gt=0), NotBoolean]
NotNegative = Annotated[float, Field(ge=0), NotBoolean]
Text = Annotated[str, Field(min_length=1)]
Addresses = Annotated[tuple[Text, ...], listed("a list of addresses, like [http://127.0.0.1:10001]")]
WorkerCount = Annotated[int, Field(ge=1, le=10_000), NotBoolean]
PathText = Annotated[Text, AfterValidator(_path)]
"""A path, `~` expanded; a relative one counts from the working directory."""
Url = Annotated[str, AfterValidator(_url)]
"""An http or https address; one without a scheme is http."""
