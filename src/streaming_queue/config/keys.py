"""The dotted keys of a model, and the settings that a mapping, a file, variables or `key=value` texts give for them.

Nothing here knows a key by name: `Keys` reads them from a pydantic model.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from streaming_queue.config import strict_yaml
from streaming_queue.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Alias:
    """Another spelling of a key. `convert` turns the given value into the key's value; `note` explains it to people."""

    key: str
    convert: Callable[[Any], Any] = lambda value: value
    note: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """A given value. `spelling` and `given` are the key and the value as written; `place` is its origin."""

    key: str
    value: Any
    origin: str
    place: str
    spelling: str
    given: Any


class Keys:
    """The dotted keys of a model, and the older spellings that stand for some of them.

    A branch has keys below it. A leaf takes a value. A key whose value is a number or a model is both.
    """

    def __init__(self, model: type[BaseModel], aliases: Mapping[str, Alias]) -> None:
        self.leaves: dict[str, FieldInfo] = {}
        self.branches = {""}
        self.aliases = aliases
        self._read(model, "")
        for spelling in aliases:
            parts = spelling.split(".")
            self.branches.update(".".join(parts[:end]) for end in range(1, len(parts)))

    def _read(self, model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            types = kinds(field.annotation)
            models = [inner for inner in types if isinstance(inner, type) and issubclass(inner, BaseModel)]
            if len(types) > len(models):
                self.leaves[prefix + name] = field
            for inner in models:
                self.branches.add(prefix + name)
                self._read(inner, f"{prefix}{name}.")

    @property
    def secrets(self) -> set[str]:
        """The last words of the keys whose values are never shown."""
        return {key.rpartition(".")[2] for key, field in self.leaves.items() if SecretStr in kinds(field.annotation)}

    @property
    def names(self) -> list[str]:
        """The leaves that are not part of another leaf's value, in the model's order."""
        return [key for key in self.leaves if key.rpartition(".")[0] not in self.leaves]

    def nearest(self, key: str) -> str | None:
        """The known key that `key` most likely meant, None if none is near."""
        known = [*self.leaves, *sorted(self.branches - {""}), *self.aliases]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
        if near:
            return near[0]
        same_end = [name for name in known if name.endswith(f".{key.rpartition('.')[2]}")]
        return same_end[0] if same_end else None

    def unknown(self, key: str, place: str) -> ConfigError:
        """The error for a key that does not exist."""
        near = self.nearest(key)
        if near == key:
            hint = f": nest it ({key.replace('.', ': {')}: ...{'}' * key.count('.')})"
        else:
            hint = f"; did you mean {near}?" if near else ""
        return ConfigError(f"{place}: unknown key {key!r}{hint}")

    def flatten(
        self, value: Any, origin: str, *, key: str = "", lines: Mapping[str, int] | None = None
    ) -> Iterator[Setting]:
        """The settings in `value`, which was given for `key` (empty: the whole tree). Raises ConfigError."""
        place = _place(origin, key, lines)
        if isinstance(value, BaseModel):
            value = {name: getattr(value, name) for name in type(value).model_fields}
        if key in self.branches and isinstance(value, Mapping):
            for name, inner in value.items():
                below = join(key, str(name))
                if "." in str(name) or not str(name):
                    raise self.unknown(below, _place(origin, below, lines))
                yield from self.flatten(inner, origin, key=below, lines=lines)
        elif key in self.aliases:
            alias = self.aliases[key]
            yield Setting(alias.key, alias.convert(value), origin, place, key, value)
        elif key in self.leaves:
            value = os.fspath(value) if isinstance(value, os.PathLike) else value
            yield Setting(key, value, origin, place, key, value)
        elif key not in self.branches:
            raise self.unknown(key, place)
        elif value is not None:  # a section with only commented keys is empty
            subject = key or "the top level"
            kind = "a list" if isinstance(value, list | tuple) else "a single value"
            raise ConfigError(f"{place}: {subject} must be a mapping of keys, not {kind}")

    def from_text(self, key: str, text: str, origin: str) -> Iterator[Setting]:
        """The settings in `text`, which is YAML. A key that takes a text gets the text itself."""
        target = self.aliases[key].key if key in self.aliases else key
        if not key or (target not in self.leaves and target not in self.branches):
            raise self.unknown(key, origin)
        bare = text.strip()
        verbatim = target in self.leaves and kinds(self.leaves[target].annotation) <= {str, SecretStr}
        if verbatim and bare not in {"", "~", "null"} and bare[:1] not in {"'", '"'}:
            return self.flatten(bare, origin, key=key)
        return self.flatten(strict_yaml.parse(text, f"{origin}: {key}", lines=False)[0], origin, key=key)

    def from_file(self, path: str | os.PathLike[str]) -> Iterator[Setting]:
        """The settings in a YAML file. Raises ConfigError."""
        name = os.fspath(path)
        try:
            text = Path(path).read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            raise ConfigError(f"{name}: there is no such file") from None
        except IsADirectoryError:
            raise ConfigError(f"{name}: this is a directory; name the file in it") from None
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{name}:{line}: byte {error.object[error.start]:#04x} is not UTF-8") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{name}: cannot be read: {reason}") from error
        tree, lines = strict_yaml.parse(text, name)
        return self.flatten(tree, name, lines=lines)

    def from_environ(
        self, environ: Mapping[str, str], prefix: str, *, reserved: Iterable[str] = ()
    ) -> Iterator[Setting]:
        """The settings in variables `PREFIX` + `SECTION__KEY`; an empty variable is not given. Raises ConfigError."""
        for name in sorted(environ):
            if name.startswith(prefix) and name not in reserved and environ[name].strip():
                yield from self.from_text(name.removeprefix(prefix).lower().replace("__", "."), environ[name], name)

    def from_assignments(self, assignments: Sequence[str], origin: str) -> Iterator[Setting]:
        """The settings in `key.path=value` texts. Raises ConfigError."""
        for assignment in assignments:
            key, equals, text = assignment.partition("=")
            if not equals or not key.strip():
                shown = re.split(r"[^\w.]", key, maxsplit=1)[0]  # what follows may be a secret
                raise ConfigError(f"{origin} {shown}".rstrip() + f": write key=value, like {origin} qa.worker.count=8")
            yield from self.from_text(key.strip(), text, origin)


def join(prefix: str, name: str) -> str:
    """The key of `name` in the section `prefix`, which may be empty."""
    return f"{prefix}.{name}" if prefix else name


def kinds(annotation: Any) -> set[Any]:
    """The types that a field may hold, None aside."""
    if get_origin(annotation) is Annotated:
        return kinds(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return set().union(*map(kinds, get_args(annotation)))
    return {annotation} - {type(None)}


def _place(origin: str, key: str, lines: Mapping[str, int] | None) -> str:
    return f"{origin}:{lines[key]}" if lines and key in lines else origin
