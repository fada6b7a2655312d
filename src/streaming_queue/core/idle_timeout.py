"""The idle timeout of messages: the time that a peer may be silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from streaming_queue.comm.context import listening
from streaming_queue.errors import SendTimeoutError


class IdleTimeouts:
    """The idle timeouts of many messages, with one timer for the first one that may expire.

    A timer for each message costs more CPU than the rest of its routing, and nearly all messages end long before their
    timeout.
    """

    def __init__(self) -> None:
        self._bounds: dict[_Bound, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def bound(self, limit_s: float | None, where: Callable[[], str]) -> _Bound:
        """Cancel the `with` block when `comm.context.heard` was not called for `limit_s` (None or 0: never).

        Raises SendTimeoutError, with `where()` as the prefix of its text.
        """
        return _Bound(self, limit_s or 0.0, where)

    def begin(self, bound: _Bound, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a bound from now on."""
        self._bounds[bound] = None
        due = bound.heard_at + bound.limit_s
        if self._timer is None or due < self._due:
            self._set(loop, due)

    def _set(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = loop.call_at(due, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel the messages that are silent for too long, and set the timer for the next one."""
        self._timer = None
        now = loop.time()
        waiting = [bound for bound in self._bounds if not bound.give_up(now)]
        if waiting:
            self._set(loop, min(bound.heard_at + bound.limit_s for bound in waiting))

    def end(self, bound: _Bound) -> None:
        """Stop watching a bound."""
        self._bounds.pop(bound, None)
        if not self._bounds and self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Bound:
    """The bound of one message, in the task that entered it."""

    __slots__ = ("_cancelling", "_expired", "_listening", "_loop", "_task", "_watch", "_where", "heard_at", "limit_s")

    def __init__(self, watch: IdleTimeouts, limit_s: float, where: Callable[[], str]) -> None:
        self._watch = watch
        self._where = where
        self._expired = False
        self.limit_s = limit_s

    def __enter__(self) -> None:
        if not self.limit_s:
            return
        self._loop = loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("an idle timeout needs a task")
        self._task, self._cancelling = task, task.cancelling()
        self.heard_at = loop.time()
        self._listening = listening(self._heard)
        self._listening.__enter__()
        self._watch.begin(self, loop)

    def _heard(self) -> None:
        self.heard_at = self._loop.time()

    def give_up(self, now: float) -> bool:
        """Cancel the block if its peer is silent for too long; returns whether it was cancelled."""
        if not self._expired and self.heard_at + self.limit_s <= now:
            self._expired = True
            self._task.cancel()
        return self._expired

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.limit_s:
            return
        self._watch.end(self)
        self._listening.__exit__(None, None, None)
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            message = f"{self._where()}: no sign of life for {self.limit_s:g} s (network.message_timeout)"
            raise SendTimeoutError(message) from error
