"""The timeouts of messages: how long a peer may be silent, and how long it may send nothing new."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType

from streaming_queue.comm.context import listening
from streaming_queue.errors import SendTimeoutError


class IdleTimeouts:
    """The timeouts of many messages, with one timer for the first one that may expire.

    A timer for each message costs more CPU than the rest of its routing, and nearly all messages end long before their
    timeout.
    """

    def __init__(self) -> None:
        self._bounds: dict[_Bound, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def bound(self, silence_s: float | None, idle_s: float | None, where: Callable[[], str]) -> _Bound:
        """Cancel the `with` block of a silent or idle peer. A limit of None or 0 means none.

        Silent: no `comm.context.heard` for `silence_s`. Idle: no `comm.context.progressed` for `idle_s` after the first
        one; a peer that sends no pieces is never idle.

        Raises SendTimeoutError, with `where()` as the prefix of its text.
        """
        return _Bound(self, silence_s or math.inf, idle_s or math.inf, where)

    def begin(self, bound: _Bound, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a bound from now on; call it again when the bound may expire earlier."""
        self._bounds[bound] = None
        due = bound.due
        if due < math.inf and (self._timer is None or due < self._due):
            self._set(loop, due)

    def _set(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = loop.call_at(due, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel the messages whose time is over, and set the timer for the next one."""
        self._timer = None
        now = loop.time()
        due = min((bound.due for bound in self._bounds if not bound.give_up(now)), default=math.inf)
        if due < math.inf:
            self._set(loop, due)

    def end(self, bound: _Bound) -> None:
        """Stop watching a bound."""
        self._bounds.pop(bound, None)
        if not self._bounds and self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Bound:
    """The bound of one message, in the task that entered it. It listens to the signs of life of the peer."""

    __slots__ = (
        "_cancelling",
        "_content_at",
        "_expired",
        "_heard_at",
        "_idle_s",
        "_listening",
        "_loop",
        "_silence_s",
        "_task",
        "_watch",
        "_where",
    )

    def __init__(self, watch: IdleTimeouts, silence_s: float, idle_s: float, where: Callable[[], str]) -> None:
        self._watch = watch
        self._where = where
        self._expired = ""
        self._silence_s = silence_s
        self._idle_s = idle_s
        self._content_at = math.inf

    def __enter__(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("an idle timeout needs a task")
        self._task, self._cancelling = task, task.cancelling()
        self._heard_at = loop.time()
        self._listening = listening(self)
        self._listening.__enter__()
        self._watch.begin(self, loop)

    def __call__(self) -> None:
        """Note a sign of life."""
        self._heard_at = self._loop.time()

    def progressed(self) -> None:
        """Note a piece of the answer."""
        is_first = self._content_at == math.inf
        self._heard_at = self._content_at = self._loop.time()
        if is_first and self._idle_s < self._silence_s:
            self._watch.begin(self, self._loop)

    @property
    def due(self) -> float:
        """The time of the loop at which the bound expires, if nothing comes."""
        return min(self._heard_at + self._silence_s, self._content_at + self._idle_s)

    def give_up(self, now: float) -> bool:
        """Cancel the block if its time is over; returns whether it was cancelled."""
        if not self._expired:
            if self._content_at + self._idle_s <= now:
                self._expired = f"no further piece of the answer for {self._idle_s:g} s (network.idle_timeout_s)"
            elif self._heard_at + self._silence_s <= now:
                self._expired = f"no sign of life for {self._silence_s:g} s (network.message_timeout)"
            else:
                return False
            self._task.cancel()
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.end(self)
        self._listening.__exit__(None, None, None)
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise SendTimeoutError(f"{self._where()}: {self._expired}") from error
