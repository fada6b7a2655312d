"""Whether the database's thread waits for more commits before a transaction."""

from __future__ import annotations

import time

FULL_GROUP = 64
"""A group with this many commits does not wait for more."""
LINGER_S = 0.005
RAREST = 10
"""After many useless waits, only one of 2 ** 10 groups waits for more commits."""


class Linger:
    """Decides whether to wait for more commits: if they come fast, and only as long as that pays.

    A commit in a group costs several times less. But no commit comes while all workers, or the only one, wait for
    theirs. So each linger that did not double the group makes the next lingers rarer.
    """

    def __init__(self) -> None:
        self._last_commit = 0.0
        self._useless = 0
        self._skipped = 0

    def pays(self, commits: int) -> bool:
        """Whether a wait of `LINGER_S` may pay, for a group with so many commits."""
        now = time.monotonic()
        recent, self._last_commit = now - self._last_commit < LINGER_S, now
        if not recent or commits >= FULL_GROUP:
            return False
        if self._skipped < (1 << self._useless) - 1:
            self._skipped += 1
            return False
        return True

    def took(self, before: int, after: int) -> None:
        """Note a wait, in which the group grew from `before` to `after` commits."""
        self._skipped = 0
        self._useless = 0 if after >= 2 * before else min(self._useless + 1, RAREST)
        self._last_commit = time.monotonic()
