"""Secrets in texts become `***`. All errors, logs and settings pass through here."""

from __future__ import annotations

import re
from urllib.parse import unquote

SECRET = "***"  # noqa: S105 (not a secret)
"""Shown in place of a secret."""

_WORDS = frozenset({"sig", "auth", "authorization", "credential", "credentials", "bearer", "jwt", "pass", "pwd"})
_ENDS = ("key", "token", "secret", "password", "passwd", "passphrase", "signature")
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

_USER = re.compile(
    r"(?<=://)(?:[^/?#\s\"']*@"
    # A password with a slash: the text after the colon is not a port, so the host follows a later `@`.
    r"|[^/?#\s\"'@:]{0,200}:(?!\d{1,5}(?:[/?#\s\"']|$))[^\s\"']{0,300}@)"
)
_PARAMETER = re.compile(r"(?<=[?&;#])([^\s=&;#?\"'<>]{1,100})=([^\s&;#\"'<>]+)")
_WITHOUT_SCHEME = re.compile(r"\s*[^\s/@:?#]+:[^\s/@]*@")

_STDIO = re.compile(r"stdio:", re.IGNORECASE)
_QUOTED = re.compile(r"([\"'])([\w.-]{1,100})([:=]\s*)((?:(?!\1).)+)", re.DOTALL)
_NAME = re.compile(r"(?<![\w.-])(-{0,2})([A-Za-z_][\w.-]{0,100})")
_AFTER_NAME = re.compile(r"[\"']\s*[=:]\s*|=|:(?![/\s])")
_AFTER_OPTION = re.compile(r"\s*[=:]\s*|\s+")
_WORD = re.compile(r"(?:\"(?:\\.|[^\"\\])*(?:\"|$)|'[^']*(?:'|$)|\\.|[^\s\"'\\])+", re.DOTALL)
"""A word of a shell with its quotes; an open quote extends to the end."""


def is_secret_name(name: str) -> bool:
    """Whether the value of this name is a secret: `api_key`, `accessToken`, `X-Amz-Signature`, `AUTH`."""
    parts = [part.lower() for part in _PART.findall(unquote(name))]
    return any(part in _WORDS or part.endswith(_ENDS) for part in parts)


def masked(text: str) -> str:
    """`text` without the credentials in its URLs, and without the secrets of a command after `stdio:`.

    In a URL these are the part before the `@`, and parameters with secret-like names. In a command they are the words
    after options with such names (`--token X`, `--token=X`), and the values of such names (`TOKEN=X`,
    `"Authorization: X"`).
    """
    if "://" in text:
        text = _PARAMETER.sub(_parameter, _USER.sub(f"{SECRET}@", text))
    found = _STDIO.search(text)
    return text if found is None else text[: found.end()] + _command(text[found.end() :])


def masked_input(text: str) -> str:
    """Like `masked`, for an address from a person: credentials count without a scheme too."""
    return masked(text if _STDIO.match(text) else _WITHOUT_SCHEME.sub(f"{SECRET}@", text, count=1))


def _parameter(match: re.Match[str]) -> str:
    name, value = match.groups()
    return f"{name}={SECRET if is_secret_name(name) else value}"


def _quoted(match: re.Match[str]) -> str:
    quote, name, between, value = match.groups()
    return f"{quote}{name}{between}{SECRET if is_secret_name(name) else value}"


def _command(command: str) -> str:
    """A command without the values of secret-like names."""
    command, parts, place = _QUOTED.sub(_quoted, command), [], 0
    while name := _NAME.search(command, place):
        end = name.end()
        if is_secret_name(name[2]) and (between := (_AFTER_OPTION if name[1] else _AFTER_NAME).match(command, end)):
            value = _WORD.match(command, between.end())
            if value and not value[0].startswith(SECRET):
                parts += [command[place : between.end()], SECRET]
                place = value.end()
                continue
        parts.append(command[place:end])
        place = end
    return "".join([*parts, command[place:]])
