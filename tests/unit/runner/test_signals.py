"""The first signal drains, a later one ends the process, whatever hangs in it. Real processes, real signals."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PROLOGUE = """
import asyncio, sys, time
from streaming_queue.runner import signals
from streaming_queue.runner.event_loop import run_fast

async def main(work, **options):
    ended = asyncio.Event()
    def first(number):
        print("first", number, flush=True)
        ended.set()
    with signals.stop_signals(first, **options):
        print("ready", flush=True)
        await work(ended)
    print("ended", flush=True)

async def hang(ended):
    await ended.wait()
    print("hanging", flush=True)
    time.sleep(600)

async def drain(ended):
    await ended.wait()
    await asyncio.to_thread(sys.stdin.readline)
"""


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROLOGUE + program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_whose_loop_hangs(number: signal.Signals) -> None:
    with running("signals.SAME_S = 0.0; run_fast(main(hang))") as process:
        process.send_signal(number)
        assert line(process) == f"first {number.value}"
        assert line(process) == "hanging"
        process.send_signal(number)
        assert process.wait(30) == 128 + number


def test_a_double_signal_counts_as_one() -> None:
    with running("signals.SAME_S = 600.0; run_fast(main(drain))") as process:
        process.send_signal(signal.SIGTERM)
        assert line(process) == "first 15"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate("go on\n", timeout=30)
        assert (out, process.returncode) == ("ended\n", 0)


def test_a_process_that_does_not_end_after_its_drain_is_ended() -> None:
    with running("signals.LATE_S = 0.2; run_fast(main(hang, drain_s=0.1))") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM


def test_a_signal_after_the_block_is_the_systems_again() -> None:
    program = """
async def none(ended):
    pass

async def work():
    await main(none)
    await asyncio.to_thread(sys.stdin.readline)

run_fast(work())
"""
    with running(program) as process:
        assert line(process) == "ended"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
