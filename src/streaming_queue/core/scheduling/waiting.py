"""What a run waits for if no worker takes questions, in words for people."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from streaming_queue.core.network_health import MOST_NAMES, listed
from streaming_queue.core.pool.worker_health import WorkerHealth

SOON_S = 2.0
"""A shorter wait is not reported, in seconds."""


def waiting_text(workers: Sequence[WorkerHealth], limit_s: float | None) -> str:
    """Since when the run waits, for what, and what ends the wait; empty while a worker takes questions.

    After `limit_s` without a worker the run stops (None: never). The text stays the same while nothing changes.
    """
    if not workers:
        return "waiting for workers: none is left; `stq workers add` adds one"
    last = max(workers, key=lambda worker: worker.down_at or 0.0)
    if last.since is None or last.down_at is None:
        return ""
    if any(worker.up and not worker.draining for worker in workers) or time.monotonic() - last.down_at < SOON_S:
        return ""
    text = f"waiting for workers since {_clock(last.since)} ({_groups(workers)})"
    waits = [worker.paused_until for worker in workers if worker.paused_until is not None]
    if waits:
        return f"{text}: the next try is at {_clock(last.since, min(waits) - last.down_at)}"
    text = f"{text}: the run goes on when one answers"
    return text if limit_s is None else f"{text}, and stops at {_clock(last.since, limit_s)}"


def why_down(workers: Collection[WorkerHealth]) -> str:
    """The reason of each worker, the first few."""
    if not workers:
        return "no worker is left"
    down = [f"{worker.worker_id} is down: {worker.reason}" for worker in workers]
    more = [f"and {len(down) - MOST_NAMES} more"] if len(down) > MOST_NAMES else []
    return "; ".join(down[:MOST_NAMES] + more)


def _groups(workers: Collection[WorkerHealth]) -> str:
    """The workers by state and reason: `3 of 3 unreachable: connection refused`."""
    groups: dict[str, int] = {}
    for worker in workers:
        groups[_what(worker)] = groups.get(_what(worker), 0) + 1
    said = [f"{count} of {len(workers)} {what}" for what, count in groups.items()]
    return listed(said)


def _what(worker: WorkerHealth) -> str:
    if worker.draining:
        return "leaving"
    where, separator, bare = (worker.reason or "").partition(": ")
    reason = bare if separator and "://" in where else worker.reason
    word = "ejected" if worker.ejected else _WORDS.get(worker.state, worker.state)
    return f"{word}: {reason}"


_WORDS = {"down": "unreachable", "paused": "ask to wait"}
"""The states of workers that people read in other words."""


def _clock(moment: datetime, later_s: float = 0.0) -> str:
    return (moment + timedelta(seconds=later_s)).astimezone().strftime("%H:%M:%S")
