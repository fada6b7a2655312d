"""Errors that are not what was raised."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from streaming_queue.comm.client.http import HttpSession
from streaming_queue.errors import CommError, RemoteError, StreamingQueueError, TopologyError
from streaming_queue.protocol_backend.http.comm import HttpCommBackend
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class _Translating(InprocCommBackend):
    """Passes what is raised through `translated`."""

    def translated(self, error: StreamingQueueError) -> StreamingQueueError:
        raise NotImplementedError

    @contextmanager
    def _translation(self) -> Iterator[None]:
        try:
            yield
        except StreamingQueueError as error:
            raise self.translated(error) from error

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        with self._translation():
            return await super().send(src_id, dst_id, payload)

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[Any]:
        with self._translation():
            async for event in super().stream(src_id, dst_id, payload):
                yield event


class LosesTheClass(_Translating):
    """Raises RemoteError for each error that is neither of the exchange nor of the caller."""

    def translated(self, error: StreamingQueueError) -> StreamingQueueError:
        if isinstance(error, CommError | TopologyError):
            return error
        return RemoteError(str(error), retryable=error.retryable, retry_after_s=error.retry_after_s)


class DropsRetryAfter(_Translating):
    """Forgets when to come back."""

    def translated(self, error: StreamingQueueError) -> StreamingQueueError:
        return type(error)(str(error), retryable=error.retryable)


class TellsEverything(InprocCommBackend):
    """Sends the text of any exception to whoever asked."""

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> Any:
        class Telling:
            async def execute(self, context: Any, event_queue: Any) -> None:
                try:
                    await executor.execute(context, event_queue)
                except StreamingQueueError:
                    raise
                except Exception as error:
                    raise RemoteError(f"{type(error).__name__}: {error}") from error

        return await super().spawn_local_agent(agent_id, host, port, Telling())


class LosesUnknownAgents(InprocCommBackend):
    """Raises KeyError for an agent that nobody registered."""

    def endpoint(self, agent_id: str) -> str:
        return self.endpoints[agent_id]


class TakesAnyScheme(InprocCommBackend):
    """Stores whatever it is given as an address."""

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        self.endpoints[agent_id] = address


class LetsTheLibrarySpeak(HttpCommBackend):
    """Lets its library's exceptions out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._session = _Untranslated(self.name)


class _Untranslated(HttpSession):
    def translated(self, address: str) -> Any:
        return nullcontext()
