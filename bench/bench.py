"""The whole pipeline over each protocol beside the raw pair of its library (`pairs/`), in one run.

What is measured, and how, is `streaming_queue.benchmark`'s, as for `stq protocol bench`; the raw pairs are added here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path

from streaming_queue.benchmark.comparison import write_questions
from streaming_queue.benchmark.figures import Figures, family, measure, median
from streaming_queue.benchmark.pipeline import SLOTS, WORKERS, Pipeline
from streaming_queue.comm import registry
from streaming_queue.runner.event_loop import run_fast

PAIRS = Path(__file__).parent / "pairs"


def cases() -> dict[str, bool]:
    """The registered protocols, and whether each has a raw pair, `pairs/raw_<proto>.py`."""
    return {name: (PAIRS / f"raw_{name}.py").exists() for name in registry.known()}


@contextmanager
def raw_servers(protocol: str) -> Iterator[tuple[list[str], list[int]]]:
    """The servers of a raw pair: their addresses, which they print, and their pids."""
    command = [sys.executable, str(PAIRS / f"raw_{protocol}.py")]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, text=True) for _ in range(WORKERS)]
    try:
        addresses = [process.stdout.readline().split()[-1] for process in started]
        yield addresses, [pid for process in started for pid in family(process.pid)]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.communicate(timeout=10)


async def measure_alone(protocol: str, path: Path, count: int, rounds: int) -> Figures:
    """The median of the pipeline, where no wire is to be set beside it."""
    async with Pipeline(protocol, path) as pipeline:
        wholes = [await measure(pipeline.run, count, pipeline.pids) for _ in range(rounds + 1)]
    return median(wholes[1:])


async def measure_protocol(protocol: str, path: Path, texts: list[str], rounds: int) -> tuple[Figures, Figures]:
    """The medians of the raw pair and of the pipeline."""
    ask_all = import_module(f"pairs.raw_{protocol}").ask_all
    pairs, wholes = [], []
    with raw_servers(protocol) as (addresses, pids):
        async with Pipeline(protocol, path) as pipeline:
            for _ in range(rounds + 1):  # the first warms up and does not count
                pair = partial(ask_all, addresses, texts, WORKERS * SLOTS)
                pairs.append(await measure(pair, len(texts), pids))
                wholes.append(await measure(pipeline.run, len(texts), pipeline.pids))
    return median(pairs[1:]), median(wholes[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    with_pair = cases()
    parser.add_argument("--protocols", default=",".join(with_pair))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = {}
    for protocol in options.protocols.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "questions.jsonl"
            texts = write_questions(path, options.questions)
            if not with_pair.get(protocol):
                alone = asdict(run_fast(measure_alone(protocol, path, len(texts), options.rounds)))
                report[protocol] = {key: round(value, 1) for key, value in alone.items() if value is not None}
                continue
            figures = run_fast(measure_protocol(protocol, path, texts, options.rounds))
        pair, whole = ({key: round(value, 1) for key, value in asdict(each).items()} for each in figures)
        report[f"{protocol} raw pair"] = pair
        report[protocol] = whole | {f"{key}_of_pair": round(whole[key] / pair[key], 3) for key in pair}
    if options.json:
        print(json.dumps(report))
        return
    print(f"{options.questions} questions, {WORKERS} worker processes x {SLOTS} slots, instant answers, ", end="")
    print(f"median of {options.rounds}; in brackets: times that of the raw pair")
    print(f"{'':14} {'questions/s':>18} {'coordinator us/q':>18} {'workers us/q':>18}")
    for name, row in report.items():
        cells = [
            f"{row[key]:.0f}" + (f" ({row[f'{key}_of_pair']:.2f})" if f"{key}_of_pair" in row else "")
            if key in row
            else "-"
            for key in ("questions_per_s", "coordinator_us", "workers_us")
        ]
        print(f"{name:14}" + "".join(f" {cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
