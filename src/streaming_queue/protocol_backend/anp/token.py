"""The bearer token that an agent gives for a signature, so that the next requests need none."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

MARGIN_S = 10.0
"""So long before its end a token is not shown any more: its holder's clock may be slow, the way long."""

_PARAMETER = re.compile(r'([A-Za-z_]+)=(?:"([^"]*)"|([^,\s]+))')


class Token:
    """One agent's token, while it holds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._value: str | None = None
        self._until = 0.0

    def __bool__(self) -> bool:
        """Whether there is one to show."""
        return self.value is not None

    @property
    def value(self) -> str | None:
        """The token, None where there is none that holds."""
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
        """Forget it, unless another has come since."""
        if value == self._value:
            self._value = None
