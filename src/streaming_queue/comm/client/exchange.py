"""One exchange: one message to an agent, from the first request to the answer.

1. A backend subclasses `Exchange`. `events()` sends the message once and yields the agent's events; `cancel()` sends a
   cancel to the agent.
2. `resumes(error)` says whether the agent has the work after a broken connection. Then `events()` runs again, and the
   exchange skips the events that the caller has. If `events()` yields only new events, the backend sets
   `replays = False`.
3. `ask()` returns the whole answer. It folds `events()`; a backend overrides `ask()` if one request costs less CPU.
4. If the caller leaves before the answer, the exchange cancels within a second. `cancellable` says whether it can; a
   command is never cancelled. `leaves` names further errors after which the exchange cancels.
5. `ExchangeBackend` builds `send` and `stream` from `_exchange(dst_id, payload)`. The exchange also translates errors
   (`translated`), checks the answer's size, and raises ProtocolError if `events()` ends without an answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing, nullcontext, suppress
from typing import Any, ClassVar

from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.errors import ConnectError, ProtocolError, StreamingQueueError, UnavailableError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent, reply_of

logger = logging.getLogger(__name__)

CANCEL_TIMEOUT_S = 1.0
HELD_S = 1.0
"""After a connection that lasted this long, in seconds, the exchange may resume again."""


class Exchange(ABC):
    """One message (`payload`) to the agent at `address`; see the top of the module. An exchange serves one call.

    The exchange resumes once after a broken connection, and again after each connection that lasted a second: an answer
    may take an hour, and a network may break more than once an hour. `resumed` counts these. A backend sets `reply` if
    the answer on the wire holds more than its event; `ask` returns `reply`. It sets `accepted` when the agent has the
    message and further requests follow: after that, a failed connection attempt is a lost answer, a ConnectError.
    """

    leaves: ClassVar[tuple[type[BaseException], ...]] = ()
    replays: ClassVar[bool] = True

    def __init__(
        self,
        address: str,
        payload: Mapping[str, Any],
        cancels: Cancels,
        translated: AbstractContextManager[None] = nullcontext(),  # noqa: B008  # it has no state
    ) -> None:
        """`translated` turns the library's errors into ours, during the exchange and its cancel."""
        self.address = address
        self.payload = payload
        self.metadata: Mapping[str, Any] = payload.get("metadata") or {}
        self.streaming = False
        self.resumed = 0
        self.accepted = False
        self.reply: Reply | None = None
        self._cancels = cancels
        self._translated = translated
        self._once_more = True

    @property
    def key(self) -> str | None:
        """The idempotency key, None without one."""
        key = self.metadata.get("idempotency_key")
        return key if isinstance(key, str) and key else None

    @property
    def is_command(self) -> bool:
        """Whether the work goes on when the caller leaves."""
        return self.metadata.get("kind") == "command"

    # --- hooks of a backend ---

    @abstractmethod
    def events(self) -> AsyncGenerator[StreamEvent, None]:
        """Send the message once; yield events, the answer last. `streaming` says whether the caller reads pieces."""

    async def ask(self) -> Reply:
        """Send the message once; return the whole answer. Default: fold `events`."""
        meter = AnswerMeter(self.address)
        async with aclosing(self.events()) as events:
            async for event in events:
                meter.take(event)
                if event["type"] == MESSAGE:
                    return self.reply or reply_of(event)
        raise self._no_answer()

    def resumes(self, error: Exception) -> bool:
        """Whether the connection broke and the agent can find the work again. Default: never."""
        del error
        return False

    @property
    def cancellable(self) -> bool:
        """Whether the agent can find the work that `cancel` names. Default: by the idempotency key."""
        return self.key is not None

    @abstractmethod
    async def cancel(self) -> None:
        """Send the agent a cancel. The exchange only logs a failure."""

    def release(self) -> None:
        """Release the exchange's resources, at its end, after any cancel. Default: nothing."""

    # --- inherited by a backend ---

    async def answer(self) -> Reply:
        """The whole answer. Raises like `BaseCommBackend.send`."""
        try:
            with self._translated:
                while True:
                    began = time.monotonic()
                    try:
                        reply = await self.ask()
                        AnswerMeter(self.address).whole(reply["text"])
                        return reply
                    except Exception as error:
                        if not self._begins_again(error, began):
                            raise
        except BaseException as error:
            if isinstance(error, (asyncio.CancelledError, *self.leaves)):
                await self._leave()
            self._check_sent(error)
            raise
        finally:
            self.release()

    async def stream(self) -> AsyncGenerator[StreamEvent, None]:
        """The events of the answer, each once. Raises like `answer`."""
        self.streaming = True
        delivered, ended = 0, False
        try:
            with self._translated:
                while True:
                    began = time.monotonic()
                    seen = 0 if self.replays else delivered
                    meter = AnswerMeter(self.address)
                    try:
                        async with aclosing(self.events()) as events:
                            async for event in events:
                                meter.take(event)
                                ended = event["type"] == MESSAGE
                                seen += 1
                                if ended or seen > delivered:
                                    delivered = seen
                                    yield event
                                if ended:
                                    return
                        raise self._no_answer()
                    except Exception as error:
                        if not self._begins_again(error, began):
                            raise
        except BaseException as error:
            if not ended and isinstance(error, (asyncio.CancelledError, GeneratorExit, *self.leaves)):
                await self._leave()
            self._check_sent(error)
            raise
        finally:
            self.release()

    def _check_sent(self, error: BaseException) -> None:
        """Raise ConnectError if an attempt to connect failed after the agent may have had the message."""
        if isinstance(error, UnavailableError) and (self.resumed or self.accepted):
            raise ConnectError(str(error), retry_after_s=error.retry_after_s) from error

    def _begins_again(self, error: Exception, began: float) -> bool:
        if not self.resumes(error):
            return False
        held = time.monotonic() - began > HELD_S
        passes, self._once_more = held or self._once_more, held
        self.resumed += passes
        return passes

    def _no_answer(self) -> ProtocolError:
        return ProtocolError(f"{self.address}: the stream ended without an answer")

    async def _leave(self) -> None:
        if self.cancellable and not self.is_command:
            await self._cancels.send(self.address, self._cancel)

    async def _cancel(self) -> None:
        with self._translated:
            await self.cancel()


class ExchangeBackend(BaseCommBackend):
    """A backend whose `send` and `stream` are one exchange."""

    @abstractmethod
    def _exchange(self, dst_id: str, payload: Mapping[str, Any]) -> Exchange:
        """The exchange of one message. Raises BackendClosedError and UnknownAgentError."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        """Send `payload` and return the answer. After a broken connection, resume if the agent has the work."""
        del src_id
        return await self._exchange(dst_id, payload).answer()

    def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """Like `send`, but yield the agent's events as they arrive; each event once, also after a broken connection."""
        del src_id
        return self._exchange(dst_id, payload).stream()


class Cancels:
    """The cancels in flight of one backend or agent. A cancel has one second, and goes on after its caller's task."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        """The number of cancels in flight."""
        return len(self._tasks)

    async def send(self, address: str, cancel: Callable[[], Awaitable[object]]) -> None:
        """Await `cancel`, one second at most; only log a failure. After `aclose`, do nothing."""
        if self._closed:
            return
        task = asyncio.create_task(_within_bound(address, cancel), name=f"cancel:{address}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)

    async def aclose(self) -> None:
        """Wait for the cancels in flight, one second at most. Idempotent."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_TIMEOUT_S)


async def _within_bound(address: str, cancel: Callable[[], Awaitable[object]]) -> None:
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT_S):
            await cancel()
    except (StreamingQueueError, OSError) as error:
        logger.debug("%s: the cancel failed (%s); the agent ends the question after its grace", address, error)
