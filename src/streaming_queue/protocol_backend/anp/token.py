"""The bearer token that an agent returns for a signature; it replaces the signatures of the next requests."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

MARGIN_S = 10.0
"""We stop using a token this long before its end, in seconds: a clock or the network may be slow."""

_PARAMETER = re.compile(r'([A-Za-z_]+)=(?:"([^"]*)"|([^,\s]+))')


class Token:
    """One agent's token, while it is valid."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._value: str | None = None
        self._until = 0.0

    def __bool__(self) -> bool:
        """Whether there is a valid token."""
        return self.value is not None

    @property
    def value(self) -> str | None:
        """The token, None without a valid one."""
        return self._value if self._clock() < self._until else None

    def keep(self, headers: Mapping[str, str]) -> None:
        """Keep the token in an answer's headers (`Authentication-Info`, or the older `Authorization`), if any."""
        parameters = {
            match[1].lower(): match[2] or match[3]
            for match in _PARAMETER.finditer(headers.get("Authentication-Info", ""))
        }
        value = parameters.get("access_token")
        if value is None:
            scheme, _, rest = headers.get("Authorization", "").partition(" ")
            value = rest.strip() if scheme.lower() == "bearer" else None
        if not value or not (value.isascii() and value.isprintable()):
            return
        seconds = parameters.get("expires_in", "")
        lasts_s = float(seconds) if seconds.isdigit() and len(seconds) < 10 else float("inf")
        self._value, self._until = value, self._clock() + lasts_s - min(MARGIN_S, lasts_s / 2)

    def refused(self, value: str | None) -> None:
        """Drop the token, unless a new one has arrived since."""
        if value == self._value:
            self._value = None
