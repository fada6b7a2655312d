"""What a request may state: the table of an endpoint's parameters, and the checks of names and of types. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from streaming_queue.service.openai.refusals import InvalidRequestError

MAX_NAMES = 100
"""The limit for the offending names in one message."""
MAX_NAME = 80
"""The limit for one offending name or value in a message, in characters."""
PAGE = "docs/openai.md lists what is supported"


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a surrogate pair, which no UTF-8 can carry") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
"""A text that every protocol can carry."""
Metadata = Annotated[
    dict[Annotated[Text, Field(max_length=64)], Annotated[Text, Field(max_length=512)]], Field(max_length=16)
]
"""OpenAI's bounds: 16 pairs, keys of 64 and values of 512 characters."""
ModelName = Annotated[Text, Field(min_length=1, max_length=256)]
M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """A document of a stranger: no value is converted. `Parameters` checks the names, so others are ignored here."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)


class StreamOptions(Strict):
    """The options of a stream; `include_usage` asks for a last chunk with the counts of tokens."""

    include_usage: bool | None = None


@dataclass(frozen=True, slots=True)
class Parameters:
    """How the members of an object are treated.

    `honoured` ones have their effect. `neutral` ones are accepted with the values named, which change nothing, and
    `refused` ones have no such value. Null counts as left out, for each member that is not required.
    """

    honoured: frozenset[str]
    neutral: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()

    def treatment(self, name: str) -> str | None:
        """`honoured`, `accepted when neutral` or `refused`; None for an unknown name."""
        if name in self.honoured:
            return "honoured"
        return "accepted when neutral" if name in self.neutral else "refused" if name in self.refused else None

    def offending(self, document: Mapping[str, Any], path: str = "") -> Iterator[Offence]:
        """The members of `document` that are not supported as they stand, in their order. `path` leads to them."""
        for name, value in document.items():
            if name in self.honoured:
                continue
            shown = path + clipped(name)
            if name not in self.neutral and name not in self.refused:
                yield Offence(shown, known=False)
            elif value is not None and not any(_same(value, each) for each in self.neutral.get(name, ())):
                yield Offence(shown)


@dataclass(frozen=True, slots=True)
class Offence:
    """A part of a request that is not supported: its path, and what was found there where that helps."""

    param: str
    found: str = ""
    known: bool = True

    def __str__(self) -> str:
        return f"{self.param} ({self.found})" if self.found else self.param


def refuse(offences: Iterable[Offence]) -> None:
    """Raise one InvalidRequestError that names all of `offences`, if any; `param` is the first one's path."""
    found = list(offences)
    if not found:
        return
    known, unknown = [each for each in found if each.known], [each for each in found if not each.known]
    said = [
        f"{word}: {_listed(list(map(str, some)))}"
        for word, some in (("not supported", known), ("unknown", unknown))
        if some
    ]
    reason = "unsupported_parameter" if known else "unknown_parameter"
    raise InvalidRequestError(f"{'; '.join(said)}. {PAGE}", param=(known or unknown)[0].param, reason=reason)


def an_object(document: object, what: str = "the body") -> dict[str, Any]:
    """`document`, if it is a JSON object with texts as keys. Raises InvalidRequestError."""
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise InvalidRequestError(f"{what} must be a JSON object", reason="invalid_type")
    return document


def validated(model: type[M], document: Mapping[str, Any], prefix: str = "") -> M:
    """`document` as `model`. Raises InvalidRequestError that names each wrong member and what it should be."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        # Without the input: a value of a stranger may be long, secret or no text at all.
        details = error.errors(include_url=False, include_context=False, include_input=False)
    paths = [prefix + _path(each["loc"]) for each in details]
    said = [f"{path}: {each['msg'][:200]}" for path, each in zip(paths, details, strict=True)]
    first = details[0]["type"]
    reason = "missing_required_parameter" if first == "missing" else "invalid_value"
    raise InvalidRequestError(_listed(said, "; "), param=paths[0] or None, reason=reason)


def clipped(text: str) -> str:
    """A stranger's name or value for a message: short, and with other characters than ASCII escaped."""
    shown = text[: MAX_NAME + 1].encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= MAX_NAME else shown[:MAX_NAME] + "..."


def _same(value: object, other: object) -> bool:
    """Whether two JSON values are equal; true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def _listed(names: list[str], separator: str = ", ") -> str:
    more = len(names) - MAX_NAMES
    return separator.join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _path(location: tuple[int | str, ...]) -> str:
    """`messages[0].content`, of pydantic's location. The tags of a union, in angle brackets, are no part of it."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("<"):
            path += f".{clipped(step)}" if path else clipped(step)
    return path
