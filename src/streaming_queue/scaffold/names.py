"""The name of a new protocol, in the forms that each place wants."""

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

    `protocol` (`my-proto`) names the protocol, its addresses' scheme and the distribution, `package` (`my_proto`) what
    is imported, `prefix` (`MyProto`) begins the names of classes.
    """

    protocol: str

    @property
    def package(self) -> str:
        """What Python can import."""
        return self.protocol.replace("-", "_")

    @property
    def prefix(self) -> str:
        """What a class can be called."""
        return "".join(word.capitalize() for word in self.protocol.split("-"))

    @classmethod
    def of(cls, given: str) -> Names:
        """The forms of a name that is free. Raises ConfigError on one that is none, or is taken."""
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
        """Who has the name already."""
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
    """Whether there is something to import; a mere folder of this name in the working directory is none."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None
