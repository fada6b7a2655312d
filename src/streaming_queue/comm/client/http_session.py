"""The HTTP of one backend: its session, what a request is, and what a failure means before and after the end."""

from __future__ import annotations

import io
from collections.abc import Mapping
from ssl import SSLContext
from types import TracebackType
from typing import Any

import aiohttp
from yarl import URL

from streaming_queue.comm.client.http import open_session, translate
from streaming_queue.errors import BackendClosedError, CommError, StreamingQueueError

_BYTES_AT_ONCE = 1024 * 1024


class HttpSession:
    """One session for all agents of a backend, opened by the first request. `protocol` stands in its errors.

    `closed` is set when the backend begins to close: failures are told as that from then on. Requests that end what
    was begun pass until `close`.
    """

    def __init__(self, protocol: str) -> None:
        self.closed = False
        self._protocol = protocol
        self._opened: aiohttp.ClientSession | None = None

    def check_open(self) -> None:
        """Raises BackendClosedError."""
        if self.closed:
            raise BackendClosedError(f"the {self._protocol} backend is closed")

    def request(
        self, method: str, url: URL, *, headers: Mapping[str, str], tls: SSLContext | None, body: bytes | None = None
    ) -> Any:
        """A request, to be awaited or entered for its response; redirects are not followed.

        Raises BackendClosedError, and what the library does: see `translated`.
        """
        if self._opened is None:
            self.check_open()
            self._opened = open_session()
        data = io.BytesIO(body) if body is not None and len(body) > _BYTES_AT_ONCE else body
        ssl = True if tls is None else tls
        return self._opened.request(method, url, data=data, headers=headers, ssl=ssl, allow_redirects=False)

    def translated(self, address: str) -> Translated:
        """A block in which what the library raises becomes one of our errors; one may be entered again and again."""
        return Translated(self, address)

    def failure(self, error: Exception, address: str) -> CommError:
        """What the library raised, as one of ours."""
        if self.closed:
            return BackendClosedError(f"{address}: the {self._protocol} backend was closed before the answer")
        return translate(error, address)

    async def close(self) -> None:
        """Give up all connections; who reads fails. Idempotent."""
        self.closed = True
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()


class Translated:
    """See `HttpSession.translated`. A class, since every question passes one, and a generator costs several times."""

    __slots__ = ("_address", "_session")

    def __init__(self, session: HttpSession, address: str) -> None:
        self._session = session
        self._address = address

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, StreamingQueueError):
            return
        if isinstance(error, aiohttp.ClientError | OSError):
            raise self._session.failure(error, self._address) from error
