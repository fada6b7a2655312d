"""The whole pipeline beside the raw pair, in one run: questions/s and CPU per question, each side.

Rounds alternate, medians are reported. CPU is user + system time of the process, so a busy machine moves it little.
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
from pathlib import Path

import uvloop
from raw_pair import ask_all

from streaming_queue.config import load_config
from streaming_queue.runner.runner_base import RunnerBase, run_async
from streaming_queue.telemetry.console import Output

HERE = Path(__file__).parent
WORKERS, SLOTS = 4, 8
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def processes(*command: str) -> Iterator[tuple[list[str], list[int]]]:
    """Four processes that each print an address; ended with the block."""
    started = [
        subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    try:
        yield [process.stdout.readline().strip() for process in started], [process.pid for process in started]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--protocols", default="http")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    texts = [f"Question {number}: what is {number} plus {number * 7}?" for number in range(options.questions)]
    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        questions = Path(folder) / "questions.jsonl"
        questions.write_text("".join(json.dumps({"id": f"q{n}", "question": t}) + "\n" for n, t in enumerate(texts)))
        with processes(str(HERE / "raw_pair.py")) as (raw, raw_pids):
            for protocol in options.protocols.split(","):
                with processes(str(HERE / "worker.py"), protocol) as (ours, our_pids):
                    for _ in range(options.rounds + 1):  # the first warms up and does not count
                        pair = measure(lambda: uvloop.run(ask_all(raw, texts, WORKERS * SLOTS)), raw_pids, len(texts))
                        whole = measure(lambda p=protocol, a=ours: pipeline(p, questions, a), our_pids, len(texts))
                        rows.setdefault("raw pair", []).append(pair)
                        rows.setdefault(protocol, []).append(whole)
    report = {
        name: {key: round(statistics.median(row[key] for row in measured[1:]), 1) for key in measured[0]}
        for name, measured in rows.items()
    }
    for row in report.values():
        row["ratio_of_raw"] = round(row["questions_per_s"] / report["raw pair"]["questions_per_s"], 3)
        row["coordinator_us_above_raw"] = round(row["coordinator_us"] - report["raw pair"]["coordinator_us"], 1)
    if options.json:
        print(json.dumps(report))
        return
    print(f"{options.questions} questions, {WORKERS} worker processes x {SLOTS} slots, instant answers, ", end="")
    print(f"median of {options.rounds}")
    print(f"{'':10} {'questions/s':>12} {'of raw':>8} {'coordinator us/q':>17} {'above raw':>10} {'workers us/q':>13}")
    for name, row in report.items():
        print(
            f"{name:10} {row['questions_per_s']:12.0f} {row['ratio_of_raw']:8.2f} {row['coordinator_us']:17.0f} "
            f"{row['coordinator_us_above_raw']:10.0f} {row['workers_us']:13.0f}"
        )


if __name__ == "__main__":
    main()
