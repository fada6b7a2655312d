"""How long a round takes over real sockets, beside the same pull schedule simulated, and beside the ideal.

    python bench/scheduling.py [--questions 2000] [--protocol http] [--json]

Four worker processes; how long each answer takes is drawn beforehand (log-normal, 0.2 s on average), so that the
simulation knows it too. The ideal splits all work, of any size, without a rest among the slots by their speed: no
schedule of whole questions reaches it.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
WORKERS = 4
MEAN_S, SIGMA = 0.2, 0.5
STRAGGLER = 20.0


@dataclass(frozen=True)
class Case:
    """Four workers, how much slower each is, and the share of their answers that take twenty times as long."""

    name: str
    slots: int
    factors: tuple[float, ...] = (1.0,) * WORKERS
    stragglers: float = 0.0


SLOW_ONE = (10.0, 1.0, 1.0, 1.0)
CASES = (
    Case("4 equal workers", 8),
    Case("4 equal workers", 32),
    Case("one 10x slower", 8, SLOW_ONE),
    Case("one 10x slower", 32, SLOW_ONE),
    Case("0.5 % stragglers x20", 32, stragglers=0.005),
)


def is_straggler(worker: int, question: int, share: float) -> bool:
    """Whether this question takes twenty times as long at this worker: the same draw here and there."""
    return random.Random(f"{worker}/{question}").random() < share


def drawn(count: int) -> list[float]:
    """How long each question takes."""
    generator = random.Random(7)
    mu = math.log(MEAN_S) - SIGMA**2 / 2
    return [generator.lognormvariate(mu, SIGMA) for _ in range(count)]


def takes(case: Case, worker: int, question: int, seconds: float) -> float:
    """How long a question takes at a worker."""
    slow = STRAGGLER if is_straggler(worker, question, case.stragglers) else 1.0
    return seconds * case.factors[worker] * slow


def ideal_s(case: Case, durations: Sequence[float]) -> float:
    """All work over all slots, by their speed, stragglers apart."""
    return sum(durations) / sum(case.slots / factor for factor in case.factors)


def pull_s(case: Case, durations: Sequence[float]) -> float:
    """When the last question ends if each slot that is free takes the next, without any cost."""
    slots = [(0.0, number, worker) for number in range(case.slots) for worker in range(WORKERS)]
    heapq.heapify(slots)
    end = 0.0
    for question, seconds in enumerate(durations):
        free_at, number, worker = heapq.heappop(slots)
        free_at += takes(case, worker, question, seconds)
        end = max(end, free_at)
        heapq.heappush(slots, (free_at, number, worker))
    return end


@contextmanager
def workers(case: Case, protocol: str) -> Iterator[list[str]]:
    """The processes' addresses."""
    processes = []
    try:
        for number, factor in enumerate(case.factors):
            sleeper = {"SLEEPER_FACTOR": str(factor), "SLEEPER_STRAGGLERS": str(case.stragglers)}
            environment = os.environ | sleeper | {"SLEEPER_NUMBER": str(number), "PYTHONPATH": str(HERE)}
            command = [sys.executable, "-m", "streaming_queue.cli", "serve", "worker", "-p", protocol]
            command += ["--executor", "sleeper:Sleeper"]
            processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        yield [process.stdout.readline().split()[-1] for process in processes if process.stdout]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.communicate(timeout=60)


async def real_s(case: Case, protocol: str, addresses: list[str], durations: Sequence[float], *, hedge: bool) -> float:
    """From the first question sent to the last answer recorded."""
    from streaming_queue.config import load_config
    from streaming_queue.runner.runner_base import RunnerBase
    from streaming_queue.telemetry.console import Output
    from streaming_queue.telemetry.events import Answered, Event, Sent

    moments: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, Answered) or (isinstance(event, Sent) and not moments):
            moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "questions.jsonl"
        lines = (json.dumps({"id": f"q{n}", "question": f"{n} {seconds:.6f}"}) for n, seconds in enumerate(durations))
        path.write_text("".join(f"{line}\n" for line in lines))
        flags = {
            "protocol": protocol,
            "qa.coordinator.data_file": str(path),
            "qa.worker.endpoints": addresses,
            "qa.worker.concurrency": case.slots,
            "scheduler.hedge": hedge,
            "output.dir": f"{folder}/run",
        }
        runner = RunnerBase(load_config(flags=flags, environ={}), output=Output(quiet=True))
        runner.listeners.append(note)
        if code := await runner.execute():
            raise SystemExit(f"a run ended with {code}")
    return moments[-1] - moments[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--protocol", default="http")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    durations = drawn(options.questions)
    rows = []
    for case in CASES:
        ideal, pull = ideal_s(case, durations), pull_s(case, durations)
        row = {"case": case.name, "slots": case.slots, "simulated pull, of the ideal": ideal / pull}
        with workers(case, options.protocol) as addresses:
            for hedge in (False, True):
                seconds = asyncio.run(real_s(case, options.protocol, addresses, durations, hedge=hedge))
                name = "hedged" if hedge else "real pull"
                row |= {f"{name}, of the ideal": ideal / seconds, f"{name}, of the simulated pull": pull / seconds}
        rows.append(row)
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{options.questions} questions, {WORKERS} workers, {options.protocol}")
    columns = list(rows[0])[2:]
    print(f"{'':22}{'slots':>6}" + "".join(f"{column:>32}" for column in columns))
    for row in rows:
        print(f"{row['case']:22}{row['slots']:6}" + "".join(f"{row[column]:32.3f}" for column in columns))


if __name__ == "__main__":
    main()
