"""Processes whose event loop, or a thread, stands still."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from streaming_queue.exit_codes import ExitCode

PROLOGUE = """
import asyncio, sys, time
from streaming_queue.runner import watchdog
from streaming_queue.runner.event_loop import run_fast
from streaming_queue.telemetry.log_lines import LogLines, log_to
log_to(LogLines())
watchdog.LOOK_S, watchdog.REPORT_LOOKS, watchdog.END_LOOKS, watchdog.ENDING_LOOKS = 0.02, 10, 40, 10
"""


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_loop_that_stands_still_is_reported_with_its_stack_and_ends_the_process() -> None:
    with start("""
def the_culprit():
    time.sleep(600)

async def main():
    await asyncio.sleep(0.1)
    the_culprit()

sys.exit(run_fast(main()))
""") as process:
        talk = process.communicate(timeout=60)[1]
    assert process.returncode == ExitCode.STOPPED, talk
    assert "in the_culprit" in talk
    assert "Traceback" not in talk


def test_a_thread_that_hangs_after_the_work_does_not_keep_the_process() -> None:
    with start("""
async def main():
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)
    return 3

sys.exit(run_fast(main()))
""") as process:
        process.communicate(timeout=60)
    assert process.returncode == 3


def test_a_loop_that_turns_and_a_process_that_was_stopped_are_left_alone() -> None:
    with start("""
async def main():
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.sleep(1.2)

sys.exit(run_fast(main()))
""") as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.2)  # longer than the bound
        process.send_signal(signal.SIGCONT)
        talk = process.communicate(timeout=60)[1]
    assert (process.returncode, talk) == (0, "")


def test_a_loop_that_a_paused_reader_holds_is_left_alone() -> None:
    with start("""
from streaming_queue.telemetry.streams import SafeStream

async def main():
    SafeStream(sys.stdout).write("x" * 1_000_000)

sys.exit(run_fast(main()))
""") as process:
        time.sleep(1.5)  # longer than the bound
        assert process.poll() is None
        written, talk = process.communicate(timeout=60)
    assert (process.returncode, len(written), talk) == (0, 1_000_000, "")
