"""Text for a terminal: hostile characters as escapes, figures in readable units."""

from __future__ import annotations

import json
import re

_HOSTILE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # controls: cursor movement, colours, bells, hidden lines
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"  # invisible, or they turn the direction
    "\u2028\u2029\ud800-\udfff\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
"""Characters that a terminal obeys or hides, without U+200C and U+200D: emoji and many scripts need these joiners."""
_MOST_CHARACTERS = 4000
NONE = "-"
"""Shown in place of a missing figure."""


def _visible(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def visible(text: str) -> str:
    """`text` with every control character except line breaks and tabs as its escape."""
    return _HOSTILE.sub(lambda match: match.group() if match.group() in "\n\t" else _visible(match), text)


def json_visible(text: str) -> str:
    """The JSON `text` with every hostile character as a JSON escape; its value stays the same."""
    if text.isascii() and "\x7f" not in text:
        return text
    return _HOSTILE.sub(lambda match: match.group() if match.group() in "\n\t" else _json_escape(match.group()), text)


def _json_escape(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def cut(text: str, most: int) -> str:
    """At most `most` characters of `text`, and the number of further ones."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} characters more)"


def one_line(text: object, most: int = _MOST_CHARACTERS) -> str:
    """At most `most` characters of `text` on one line, with every control character as its escape."""
    return _HOSTILE.sub(_visible, cut(str(text), most))


def lines(text: object, indent: str, most: int = _MOST_CHARACTERS) -> str:
    """`text` like `one_line`, but with its line breaks, and with `indent` before all lines but the first.

    So no text can imitate a line of ours.
    """
    return f"\n{indent}".join(_HOSTILE.sub(_visible, line) for line in cut(str(text), most).split("\n"))


def duration(seconds: float | None) -> str:
    """Seconds as `0.42 s`, `12.3 s`, `2:05` or `1:02:05`."""
    if seconds is None:
        return NONE
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    return clock(seconds)


def clock(seconds: float | None) -> str:
    """Seconds as `0:12`, `2:05` or `1:02:05`."""
    if seconds is None:
        return NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def rate(per_s: float | None) -> str:
    """A rate per second: `4.21/s`, `312/s`."""
    return NONE if per_s is None else f"{figure(per_s)}/s"


def figure(value: float | None) -> str:
    """A number with about three significant digits: `0.042`, `4.21`, `31.2`, `1,234`."""
    if value is None:
        return NONE
    for limit, digits in ((0.1, 3), (9.995, 2), (99.95, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}" if value else "0"
    return f"{value:,.0f}"


def percent(share: float | None) -> str:
    """A share of 0 to 1: `0.4 %`, `12 %`."""
    if share is None:
        return NONE
    return f"{share * 100:.1f} %" if share < 0.0995 else f"{share * 100:.0f} %"
