"""What every engine refuses, in the same words."""

from __future__ import annotations

from streaming_queue.errors import LeaseLostError, QueueError, QueueFullError
from streaming_queue.queue.base import Lease


def lease_lost(lease: Lease) -> LeaseLostError:
    """A lease that is no longer its holder's."""
    return LeaseLostError(
        f"question {lease.id!r}: lease {lease.fence} was taken over, given back or settled; its holder may only commit"
    )


def foreign_lease(lease: Lease) -> QueueError:
    """A lease without the handle that an engine gives."""
    return QueueError(f"question {lease.id!r}: its lease is none of this queue's, the answer cannot be recorded")


def queue_full(held: int, most: int, more: int) -> QueueFullError:
    """`more` questions on top of the `held` open ones would pass the limit."""
    return QueueFullError(f"the queue holds {held} open questions of {most} at the most; {more} more do not fit")
