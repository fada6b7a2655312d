"""Peak memory of a whole run (inproc, instant mock) at growing numbers of questions, each in a fresh process."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = (10_000, 100_000, 300_000)


def one(questions: str, directory: str) -> None:
    from streaming_queue.config import load_config
    from streaming_queue.runner.runner_base import RunnerBase, run_async
    from streaming_queue.telemetry.console import Output

    flags = {
        "protocol": "inproc",
        "qa.coordinator.data_file": questions,
        "output.dir": directory,
        "mock.latency_ms": 0,
    }
    code = run_async(RunnerBase(load_config(flags=flags, environ={}), output=Output(quiet=True)))
    assert code == 0
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    for size in [int(argument) for argument in sys.argv[1:]] or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            questions = Path(folder) / "questions.jsonl"
            with questions.open("w") as file:
                for number in range(size):
                    file.write(json.dumps({"id": f"q{number}", "question": f"What is {number} plus one?"}) + "\n")
            command = [sys.executable, __file__, "--one", str(questions), f"{folder}/run"]
            peak_kib = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
            print(f"{size:>9} questions: {peak_kib / 1024:7.1f} MiB peak", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:])
    else:
        main()
