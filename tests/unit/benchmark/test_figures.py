from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from streaming_queue.benchmark.figures import Figures, cpu_s, family, measure, median
from streaming_queue.errors import StreamingQueueError

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells another process's CPU")

WORKS = """
import sys, time
print("ready", flush=True)
for line in sys.stdin:
    until = time.process_time() + float(line)
    while time.process_time() < until:
        pass
    print("done", flush=True)
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WORKS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def work(process: subprocess.Popen[str], seconds: float) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    process.stdout.readline()


@linux_only
async def test_each_side_has_its_own_cpu(worker: subprocess.Popen[str]) -> None:
    async def ask() -> None:
        await asyncio.to_thread(work, worker, 0.05)

    figures = await measure(ask, 10, [worker.pid])
    assert 0 < figures.questions_per_s < 200
    assert figures.coordinator_us < 4000
    assert figures.workers_us is not None
    assert 5000 <= figures.workers_us < 7000


async def test_work_in_this_process_is_the_coordinators() -> None:
    async def ask() -> None:
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass

    figures = await measure(ask, 10)
    assert figures.coordinator_us >= 2000
    assert figures.workers_us is None


@linux_only
def test_a_process_that_ended_has_no_figures(worker: subprocess.Popen[str]) -> None:
    assert cpu_s([worker.pid, os.getpid()])
    worker.kill()
    worker.wait()
    with pytest.raises(StreamingQueueError, match="a worker ended while it was measured"):
        cpu_s([worker.pid])


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_what_a_process_started_is_of_its_family() -> None:
    script = "import subprocess, sys; subprocess.run(['sh', '-c', 'echo ready; read line; true'])"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        members = family(process.pid)
        assert members[0] == process.pid
        assert len(members) == 2
        process.communicate("\n")


def test_the_median_is_each_figures_own() -> None:
    rounds = [Figures(10, 3.0, 5.0), Figures(30, 1.0, None), Figures(20, 2.0, 7.0)]
    assert median(rounds) == Figures(20, 2.0, 6.0)
    assert median([Figures(10, 3.0, None)]).workers_us is None
