"""An address as people may see it: neither the credentials of a URL nor the secrets among a command's arguments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

HIDDEN = "***"
SHORTEST = 4
"""A shorter secret is not looked for in a text: it would garble every word that it happens to occur in."""

_NAMES = r"[\w.-]*(?:token|key|secret|pass|password|passwd|pwd|credentials?|auth|authorization|bearer|pat)"
_OPTION = re.compile(rf"--?{_NAMES}", re.IGNORECASE)
_PAIR = re.compile(rf"(?:--?)?{_NAMES}\s*[=:]\s*(?P<value>.+)", re.IGNORECASE | re.DOTALL)
_URL = re.compile(r"://(?P<value>[^/@\s]+)@")


def shown(address: str) -> str:
    """The address, with `***` in place of each secret."""
    if not is_command(address):
        return _URL.sub(f"://{HIDDEN}@", address)
    scheme, _, command = address.partition(":")
    try:
        words = shlex.split(command)
    except ValueError:
        return f"{scheme}:..."
    secrets = set(secrets_of(words))
    return f"{scheme}:{shown_command(words)}" if secrets else address


def is_command(address: str) -> bool:
    """Whether an address is a command of this machine, like `stdio:python server.py`, and no URL."""
    scheme, colon, rest = address.partition(":")
    return bool(colon) and re.fullmatch(r"[a-z][a-z0-9+.-]+", scheme) is not None and not rest.startswith("//")


def shown_command(words: Sequence[str]) -> str:
    """A command's words as one line, with `***` in place of each secret."""
    secrets = set(secrets_of(words))
    return " ".join(HIDDEN if word in secrets else _hide(shlex.quote(word), secrets) for word in words)


def secrets_of(words: Sequence[str]) -> Iterator[str]:
    """The values in a command that are secrets by their names (`--api-key VALUE`, `TOKEN=VALUE`), or in a URL."""
    follows = False
    for word in words:
        if follows and not word.startswith("-"):
            yield word
        elif match := _PAIR.fullmatch(word) or _URL.search(word):
            yield match["value"]
        follows = _OPTION.fullmatch(word) is not None


def without(text: str, secrets: Iterable[str]) -> str:
    """`text`, with `***` in place of each secret that is not too short to be told from a word."""
    return _hide(text, [secret for secret in secrets if len(secret) >= SHORTEST])


def _hide(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text
