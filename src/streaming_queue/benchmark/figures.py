"""The cost of one round of questions, and the median of several rounds."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streaming_queue.errors import StreamingQueueError


@dataclass(frozen=True, slots=True)
class Figures:
    """A round: its pace, and the CPU (user and system) in microseconds per question, here and at the workers.

    `workers_us` is None if it cannot be separated.
    """

    questions_per_s: float
    coordinator_us: float
    workers_us: float | None


async def measure(work: Callable[[], Awaitable[object]], count: int, pids: Sequence[int] = ()) -> Figures:
    """The figures of `work`, in which the processes `pids` (none: this process) answer `count` questions.

    Raises StreamingQueueError if one of the processes has ended.
    """
    here, there, started = time.process_time(), cpu_s(pids), time.perf_counter()
    await work()
    seconds = time.perf_counter() - started
    here, after = time.process_time() - here, cpu_s(pids)
    spent = None if there is None or after is None else (after - there) / count * 1e6
    return Figures(count / seconds, here / count * 1e6, spent)


def median(rounds: Sequence[Figures]) -> Figures:
    """Each figure's median over rounds."""
    workers = [each.workers_us for each in rounds if each.workers_us is not None]
    return Figures(
        statistics.median(each.questions_per_s for each in rounds),
        statistics.median(each.coordinator_us for each in rounds),
        statistics.median(workers) if workers else None,
    )


def cpu_s(pids: Sequence[int]) -> float | None:
    """CPU seconds of other processes with all their threads; None without processes, and on systems without the clock.

    Linux has a clock for each process, exact to the nanosecond, with a number made of the pid
    (clock_getcpuclockid(3)). Raises StreamingQueueError if a process has ended.
    """
    if not pids or sys.platform != "linux":
        return None
    try:
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)
    except OSError as error:
        raise StreamingQueueError("a worker ended while it was measured, so its figures are lost") from error


def family(pid: int) -> list[int]:
    """A process and its descendants (a server, for example), according to /proc. Blocks."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # the process has ended
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for process in found:
        found += children.get(process, ())
    return found
