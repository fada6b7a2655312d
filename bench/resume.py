"""How soon a killed run of 200,000 questions works again: from the command to its first new answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def rows(results: Path) -> int:
    return results.read_bytes().count(b"\n") if results.exists() else 0


def main(count: int = 200_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        questions, results = Path(folder) / "questions.jsonl", Path(folder) / "run" / "results.jsonl"
        with questions.open("w") as file:
            for number in range(count):
                file.write(json.dumps({"id": f"q{number}", "question": f"What is {number} plus one?"}) + "\n")
        stq = [sys.executable, "-m", "streaming_queue.cli"]
        options = ["-p", "inproc", "-q", str(questions), "-o", "run", "-s", "mock.latency_ms=0"]
        process = subprocess.Popen([*stq, "run", *options], cwd=folder, stderr=subprocess.DEVNULL)
        while rows(results) < count // 2:
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        before, started = rows(results), time.perf_counter()
        process = subprocess.Popen([*stq, "resume", "run"], cwd=folder, stderr=subprocess.DEVNULL)
        size = results.stat().st_size
        while results.stat().st_size <= size:
            time.sleep(0.01)
        print(f"{count} questions, {before} answered: the first new answer after {time.perf_counter() - started:.2f} s")
        process.kill()
        process.wait()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
