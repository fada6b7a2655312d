"""The jobs for the thread that owns the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streaming_queue.messages import Result
from streaming_queue.queue.base import Lease

if TYPE_CHECKING:
    from streaming_queue.queue.sqlite_store import Store


@dataclass(slots=True, eq=False)
class WriterJob:
    """A job; its value or error goes to `future`, if there is one."""

    future: asyncio.Future[Any] | None


@dataclass(slots=True, eq=False)
class WriterCall(WriterJob):
    """Run `function(store)`."""

    function: Callable[[Store], Any]


@dataclass(slots=True, eq=False)
class Commit(WriterJob):
    """Record an answer. `body` is its JSON, None for a large one: the thread encodes it when its turn comes."""

    lease: Lease
    result: Result
    body: str | None


@dataclass(slots=True, eq=False)
class Take(WriterJob):
    """Lease up to `limit` questions; wait for the first until `deadline`, a moment of the monotonic clock."""

    limit: int
    deadline: float


@dataclass(slots=True, eq=False)
class Stop(WriterJob):
    """Close; the last job."""
