"""Addresses that are commands of this machine, and the secrets in the words of a command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from streaming_queue.masking import SECRET, masked

SHORTEST = 4
"""A shorter secret is not masked: it would change ordinary words that contain it."""


def is_command(address: str) -> bool:
    """Whether an address is a command of this machine, like `stdio:python server.py`, and no URL."""
    scheme, colon, rest = address.partition(":")
    return bool(colon) and re.fullmatch(r"[a-z][a-z0-9+.-]+", scheme) is not None and not rest.startswith("//")


def secrets_of(address: str) -> frozenset[str]:
    """The secrets that `masked` hides in a command: a server may print a secret without the name before it."""
    try:
        words, hidden = (shlex.split(text.partition(":")[2]) for text in (address, masked(address)))
    except ValueError:
        return frozenset()
    if len(words) != len(hidden):
        return frozenset(words) - frozenset(hidden)
    return frozenset(_value(word, shown) for word, shown in zip(words, hidden, strict=True) if word != shown)


def without(text: str, secrets: Iterable[str]) -> str:
    """`text`, with `***` in place of each secret of `SHORTEST` characters or more."""
    for secret in secrets:
        if len(secret) >= SHORTEST:
            text = text.replace(secret, SECRET)
    return text


def _value(word: str, shown: str) -> str:
    before, _, after = shown.partition(SECRET)
    return word.removeprefix(before).removesuffix(after)
