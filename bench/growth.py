"""Whether anything grows with the questions asked: memory, tasks' work and descriptors, over each protocol.

    python bench/growth.py [--questions 20000] [--protocols a2a,http]

Two worker processes are asked 6,000 questions (by then their bounded caches are full), then as many more as named; what
the workers and this process hold before and after is reported.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from streaming_queue.benchmark.comparison import write_questions
from streaming_queue.benchmark.pipeline import Pipeline
from streaming_queue.runner.event_loop import run_fast

WARM_UP = 6000


def held(pid: int) -> tuple[float, int, int]:
    """Resident memory in MiB, threads, and open descriptors of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


async def measure(protocol: str, folder: Path, count: int) -> dict[str, list[tuple[float, int, int]]]:
    """What each process holds, before and after."""
    path = folder / "questions.jsonl"
    rows: dict[str, list[tuple[float, int, int]]] = {}
    async with Pipeline(protocol, path, workers=2) as pipeline:
        for number in (WARM_UP, count):
            write_questions(path, number)
            await pipeline.run()
            for name, pid in (("coordinator", os.getpid()), *((f"process {pid}", pid) for pid in pipeline.pids)):
                rows.setdefault(name, []).append(held(pid))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=20_000)
    parser.add_argument("--protocols", default="a2a,http")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.one:  # a process of its own for each, so that none carries another's
        for protocol in options.protocols.split(","):
            command = [sys.executable, __file__, "--questions", str(options.questions), "--one", protocol]
            subprocess.run(command, check=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = run_fast(measure(options.one, Path(folder), options.questions))
    print(f"{options.one}: after {WARM_UP:,} questions, and after {options.questions:,} more")
    for name, (before, after) in rows.items():
        print(
            f"  {name:12} {before[0]:6.1f} -> {after[0]:6.1f} MiB   threads {before[1]} -> {after[1]}   "
            f"descriptors {before[2]} -> {after[2]}"
        )


if __name__ == "__main__":
    main()
