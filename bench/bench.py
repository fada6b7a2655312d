"""The whole pipeline over each protocol beside the raw pair of its library (`pairs/`), in one run.

Questions/s and CPU per question, each side. Rounds alternate, medians are reported. CPU is user + system time of the
process, so a busy machine moves it little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import uvloop

from streaming_queue.config import load_config
from streaming_queue.runner.runner_base import RunnerBase, run_async
from streaming_queue.telemetry.console import Output

PAIRS = Path(__file__).parent / "pairs"
WORKERS, SLOTS = 4, 8
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def processes(*command: str, count: int = WORKERS) -> Iterator[tuple[list[str], list[int]]]:
    """Processes that each print a line that ends with an address; ended with the block."""
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    started = [
        subprocess.Popen([sys.executable, *command], stdin=pipe, stdout=pipe, stderr=nowhere, text=True)
        for _ in range(count)
    ]
    try:
        yield [process.stdout.readline().split()[-1] for process in started], [process.pid for process in started]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(10)
            process.stdin.close()
            process.stdout.close()


def cpu_of(pids: list[int]) -> float:
    """Seconds of CPU that processes have used."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICKS


def measure(work: Callable[[], None], pids: list[int], count: int) -> dict[str, float]:
    """Questions/s, and CPU microseconds per question here and at the workers."""
    here, there, started = time.process_time(), cpu_of(pids), time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    return {
        "questions_per_s": count / seconds,
        "coordinator_us": (time.process_time() - here) / count * 1e6,
        "workers_us": (cpu_of(pids) - there) / count * 1e6,
    }


def pipeline(protocol: str, questions: Path, addresses: list[str]) -> None:
    """One whole run, as the command does it: intake, queue, scheduling, durable results, report."""
    with tempfile.TemporaryDirectory(dir=questions.parent) as directory:
        flags = {
            "protocol": protocol,
            "qa.coordinator.data_file": str(questions),
            "qa.worker.endpoints": addresses,
            "qa.worker.concurrency": SLOTS,
            "output.dir": f"{directory}/run",
        }
        output = Output(quiet=True)
        code = run_async(RunnerBase(load_config(flags=flags, environ={}), output=output))
        assert code == 0, f"the run ended with {code}"


def measure_protocol(
    protocol: str, questions: Path, texts: list[str], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """The medians of the raw pair and of the pipeline."""
    ask_all = import_module(f"pairs.raw_{protocol}").ask_all
    pairs, wholes = [], []
    serve = ("-m", "streaming_queue.cli", "serve", "worker", "-p", protocol, "-s", "mock.latency_ms=0")
    with processes(str(PAIRS / f"raw_{protocol}.py")) as (raw, raw_pids), processes(*serve) as (ours, our_pids):
        for _ in range(rounds + 1):  # the first warms up and does not count
            pairs.append(measure(lambda: uvloop.run(ask_all(raw, texts, WORKERS * SLOTS)), raw_pids, len(texts)))
            wholes.append(measure(lambda: pipeline(protocol, questions, ours), our_pids, len(texts)))
    return median(pairs[1:]), median(wholes[1:])


def median(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(row[key] for row in rows), 1) for key in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--protocols", default=",".join(sorted(path.stem.removeprefix("raw_") for path in PAIRS.glob("raw_*.py")))
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    texts = [f"Question {number}: what is {number} plus {number * 7}?" for number in range(options.questions)]
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        questions = Path(folder) / "questions.jsonl"
        questions.write_text("".join(json.dumps({"id": f"q{n}", "question": t}) + "\n" for n, t in enumerate(texts)))
        for protocol in options.protocols.split(","):
            pair, whole = measure_protocol(protocol, questions, texts, options.rounds)
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
            for key in ("questions_per_s", "coordinator_us", "workers_us")
        ]
        print(f"{name:14}" + "".join(f" {cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
