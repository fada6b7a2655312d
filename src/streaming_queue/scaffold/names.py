"""The name of a new protocol, in the form for each place."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass

from streaming_queue.comm import registry
from streaming_queue.errors import ConfigError

MAX_CHARACTERS = 40
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Names:
    """One name in three forms.

    `protocol` (`my-proto`) names the protocol, the scheme of addresses and the distribution. `package` (`my_proto`) is
    the name for imports. `prefix` (`MyProto`) begins the names of classes.
    """

    protocol: str

    @property
    def package(self) -> str:
        """The name for imports."""
        return self.protocol.replace("-", "_")

    @property
    def prefix(self) -> str:
        """The first part of class names."""
        return "".join(word.capitalize() for word in self.protocol.split("-"))

    @classmethod
    def of(cls, given: str) -> Names:
        """The forms of a free name. Raises ConfigError on an invalid or a taken name."""
        if len(given) > MAX_CHARACTERS or not _NAME.fullmatch(given):
            raise ConfigError(
                f"protocol name {given!r}: write a letter, then letters and digits, all lower case, in words joined by "
                f"- or _, {MAX_CHARACTERS} characters at the most: it also names a package and begins addresses"
            )
        names = cls(given.replace("_", "-"))
        if taken := names._taken():
            raise ConfigError(f"protocol name {given!r} {taken}: choose another one")
        return names

    def _taken(self) -> str | None:
        """The reason why the name is taken, None for a free name."""
        if spec := registry.known().get(self.protocol):
            return f"is taken by a protocol that is here, {spec.target}"
        if keyword.iskeyword(self.package):
            return "is a word of Python's"
        if self.package in sys.stdlib_module_names:
            return "is a module of Python's own"
        if _is_installed(self.package):
            return f"is taken by a package that is installed, {self.package}"
        return None


def _is_installed(package: str) -> bool:
    """Whether a package of this name can be imported. A mere folder in the working directory does not count."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None
