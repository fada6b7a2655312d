"""Cursors: positions in the rows of a run, as opaque text."""

from __future__ import annotations

import re

from streaming_queue.errors import ConfigError

_CURSOR = re.compile(r"([0-9a-f]{8})-([1-9][0-9]{0,17})")


def make_cursor(log: str, number: int) -> str | None:
    """The cursor of the row `number` in the log `log`; None for a row without a log."""
    return f"{log}-{number}" if log and number else None


def read_cursor(text: str, log: str, newest: int, run: object) -> int:
    """The number that `text` stands for in the log `log`, whose newest row is `newest`. Empty text is the beginning.

    Raises:
        ConfigError: `text` is no cursor, belongs to another run, or is newer than all rows of `run`.
    """
    if not text:
        return 0
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise ConfigError(f"--after {text[:100]!r} is no cursor; copy the `cursor` of a row, or give '' for all rows")
    if found[1] != log:
        raise ConfigError(f"the cursor {text!r} belongs to another run than {run}; give '' for all rows")
    if int(found[2]) > newest:
        raise ConfigError(
            f"the cursor {text!r} is newer than all rows of {run}, which is perhaps an older copy; give '' for all rows"
        )
    return int(found[2])
