from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from unit.telemetry.runs import Clock, Terminal, answered, started

from streaming_queue.messages import Counts, Failure
from streaming_queue.telemetry import console
from streaming_queue.telemetry.console import Output, render_summary
from streaming_queue.telemetry.events import (
    Continued,
    DeadLettered,
    IntakeFinished,
    Notice,
    Paused,
    Purged,
    Queued,
    Replayed,
    RunFinished,
    Sent,
    WorkerDown,
    WorkerUp,
)

DONE = Counts(done=2, dead=1)
SUMMARY = {"timings": {}, "state": "done", "answered": 2, "failed": 1, "questions": 3, "seconds": 1.0}


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def streams():
    return io.StringIO(), io.StringIO()


def plain(streams, **options) -> Output:
    return Output(stdout=streams[0], stderr=streams[1], **options)


def displays() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "streaming-queue-display"]


def until(condition, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def no_display_is_left():
    yield
    until(lambda: not displays())


def test_messages_are_prefixed_plain_lines_on_standard_error(streams):
    output = plain(streams)
    for level in ("info", "success", "warning", "error", "progress", "system"):
        getattr(output, level)(f"a {level}")
    assert streams[1].getvalue().splitlines() == [
        "[INFO] a info",
        "[SUCCESS] a success",
        "[WARNING] a warning",
        "[ERROR] a error",
        "[PROGRESS] a progress",
        "[SYSTEM] a system",
    ]
    assert streams[0].getvalue() == ""


def test_a_terminal_gets_colours_and_the_same_words():
    stream = Terminal()
    Output(stderr=stream, stdout=io.StringIO()).error("it [bold]broke[/bold]")
    assert stream.getvalue() == "\x1b[1;31m[ERROR]\x1b[0m it [bold]broke[/bold]\n"


def test_quiet_leaves_warnings_and_errors(streams):
    output = plain(streams, quiet=True)
    for level in ("info", "success", "warning", "error", "progress", "system"):
        getattr(output, level)(level)
    output(started())
    output(RunFinished("done", DONE, SUMMARY))
    warning, error, end = streams[1].getvalue().splitlines()
    assert (warning, error) == ("[WARNING] warning", "[ERROR] error")
    assert end.startswith("[WARNING] run done: 2 answered, 1 failed")
    assert streams[0].getvalue() == ""
    assert displays() == []


def test_credentials_in_addresses_are_hidden(streams):
    plain(streams).info("stdio:server --token s3cret")
    assert streams[1].getvalue() == "[INFO] stdio:server --token ***\n"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_hostile_text_is_shown_and_not_obeyed(stream):
    target = stream()
    output = Output(stderr=target, stdout=io.StringIO())
    output.error("\x1b[2J\x1b]0;owned\x07\r[SUCCESS] fine\n[SUCCESS] fine")
    output(DeadLettered("q\x1b[2J", Failure("RemoteError", "\x9b31m"), 3))
    output(Notice("warning", "[link=http://evil]click[/link]"))
    shown = target.getvalue()
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    assert "\r" not in shown
    assert "\x9b" not in shown
    assert r"\x1b[2J\x1b]0;owned\x07\r[SUCCESS] fine" in shown
    assert "[link=http://evil]click[/link]" in shown
    assert "\n[SUCCESS]" not in shown


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_escape_code_where_none_is_wanted(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(console, "PLAIN_S", 0.02)
    stdout, stderr = Terminal(), Terminal()
    output = Output(stdout=stdout, stderr=stderr)
    output.warning("careful")
    output(started())
    output(Queued(3, 0, 3))
    until(lambda: "[PROGRESS]" in stderr.getvalue())
    output(RunFinished("done", DONE, SUMMARY))
    assert "\x1b" not in stdout.getvalue() + stderr.getvalue()
    assert "[WARNING] careful" in stderr.getvalue()
    assert "questions" in stdout.getvalue()


def test_an_empty_no_color_is_none_and_force_color_colours_a_file(monkeypatch, streams):
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    plain(streams).info("hello")
    assert "\x1b[" in streams[1].getvalue()


def test_events_worth_a_line_get_one(streams):
    output = plain(streams)
    output(started(workers=3))
    output(IntakeFinished(10, 2, 1))
    output(IntakeFinished(10, 0, 0))
    output(Notice("info", "all is well"))
    output(Notice("error", "all is not"))
    output(WorkerDown("Worker-1", "connection refused"))
    output(WorkerDown("Worker-2", "wrong key", final=True))
    output(WorkerUp("Worker-1"))
    output(Sent("q", "Worker-1", 1))
    output(answered("q"))
    output(DeadLettered("q2", Failure("QuotaError", "no credit", "Worker-3"), 3))
    output(RunFinished("done", DONE, {}))
    lines = streams[1].getvalue().splitlines()
    assert re.fullmatch(r"\[WARNING\] run done: 2 answered, 1 failed of 3 in 0\.\d\d s", lines.pop())
    assert lines == [
        "[SYSTEM] run r1 starts: 8 at a time over 3 workers",
        "[INFO] read 10 questions, 2 unusable lines skipped, 1 known already",
        "[INFO] read 10 questions",
        "[INFO] all is well",
        "[ERROR] all is not",
        "[WARNING] Worker-1 is down: connection refused",
        "[WARNING] Worker-2 is down: wrong key; it will not be asked again in this run",
        "[SUCCESS] Worker-1 is up",
        "[ERROR] question q2 failed after 3 attempts (Worker-3): QuotaError: no credit",
    ]


def test_commands_are_printed(streams):
    output = plain(streams)
    for event in (Paused("runs/a"), Continued(), Replayed(1200), Purged(3)):
        output(event)
    assert streams[1].getvalue().splitlines() == [
        "[WARNING] paused: questions in flight end; `stq resume runs/a` goes on",
        "[SUCCESS] no longer paused",
        "[INFO] 1,200 failed questions are asked again",
        "[WARNING] 3 failed questions were deleted",
    ]


def test_a_resumed_run_says_where_it_goes_on(streams):
    output = plain(streams)
    output(started(resumed=True, counts=Counts(ready=5, done=1990, dead=5)))
    output.close()
    assert "[SYSTEM] run r1 goes on: 1,995 of 2,000 done, 8 at a time over 2 workers\n" in streams[1].getvalue()


def test_a_run_that_did_not_end_well_says_what_is_left(streams):
    output = plain(streams)
    output(started())
    output(RunFinished("stopped", Counts(ready=7, done=2), {}))
    assert "[WARNING] run stopped: 2 answered, 0 failed of 9" in streams[1].getvalue()
    assert streams[1].getvalue().endswith("7 not asked\n")


def test_a_flood_of_failures_is_counted_and_not_shown(streams):
    output = plain(streams)
    output(started())
    for number in range(1000):
        output(DeadLettered(f"q-{number}", Failure("RemoteError", "it broke"), 3))
    output.close()
    lines = streams[1].getvalue().splitlines()
    assert len([line for line in lines if line.startswith("[ERROR]")]) == 10
    assert lines[-1] == "[WARNING] further failed questions are counted, not shown; results.jsonl has them all"
    assert output.progress_state.failed == 1000


def test_progress_is_a_plain_line_off_a_terminal(streams):
    clock = Clock()
    output = plain(streams, clock=clock)
    output(started())
    output(Queued(10, 0, 10))
    output(IntakeFinished(10, 0, 0))
    for number in range(5):
        clock.now += 1
        output(answered(f"q-{number}"))
    output.plain_line()
    output.close()
    assert streams[1].getvalue().splitlines()[-1] == (
        "[PROGRESS] 5/10 (50%), 5 answered, 0 failed, 0 in flight | 1.00/s, ETA 0:05 | 2 of 2 workers up"
    )


class Stopwatch(threading.Event):
    """An event whose `wait` is over when the test says that the time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []
        self.passed = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        self.passed.acquire()
        return self.is_set()


def test_the_pace_is_a_line_every_five_seconds_and_no_more_after_the_end(streams, monkeypatch):
    stopwatch = Stopwatch()
    made = SimpleNamespace(Event=lambda: stopwatch, RLock=threading.RLock, Thread=threading.Thread)
    monkeypatch.setattr(console, "threading", made)
    output = plain(streams)
    output(started())

    def shown() -> int:
        return streams[1].getvalue().count("[PROGRESS]")

    for times in (1, 2, 3):
        stopwatch.passed.release()
        until(lambda: len(stopwatch.waited) == times + 1)  # noqa: B023
        assert shown() == times
    output(RunFinished("done", DONE, {}))
    stopwatch.passed.release()
    until(lambda: not displays())
    assert stopwatch.waited == [5.0] * 4
    assert shown() == 3


@pytest.mark.parametrize("end", ["RunFinished", "close", "a new run"])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_no_thread_outlives_the_run(monkeypatch, end, stream):
    monkeypatch.setattr(console, "FRAME_S", 0.01)
    monkeypatch.setattr(console, "PLAIN_S", 0.01)
    output = Output(stdout=io.StringIO(), stderr=stream())
    output(started())
    assert len(displays()) == 1
    if end == "a new run":
        output(started())
        until(lambda: len(displays()) == 1)
    if end == "RunFinished":
        output(RunFinished("done", DONE, {}))
    else:
        output.close()
        output.close()
    until(lambda: not displays())
    output.info("messages still work")


def test_a_terminal_sees_the_run_live_and_finds_it_tidied_up(monkeypatch):
    monkeypatch.setattr(console, "FRAME_S", 0.01)
    stream = Terminal()
    output = Output(stdout=io.StringIO(), stderr=stream)
    output(started())
    output(Queued(4, 0, 4))
    output(answered("q-1"))
    until(lambda: "streaming queue" in stream.getvalue())
    output.info("a message meanwhile")
    output(RunFinished("done", DONE, {}))
    until(lambda: not displays())
    shown = stream.getvalue()
    assert "Worker-2" in shown
    assert "MOCK" in shown
    assert "a message meanwhile" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert shown.rindex("\x1b[?25h") < shown.rindex("run done")
    assert sys.stderr is not stream


def test_at_most_four_frames_a_second():
    assert console.FRAME_S >= 0.25


@pytest.mark.parametrize("stdout_is_a_terminal", [True, False])
def test_json_lines_own_standard_output(stdout_is_a_terminal):
    stdout, stderr = Terminal() if stdout_is_a_terminal else io.StringIO(), Terminal()
    output = Output(stdout=stdout, stderr=stderr, json_lines=True)
    assert output._is_live() is not stdout_is_a_terminal
    output(started())
    output(RunFinished("done", DONE, SUMMARY))
    assert stdout.getvalue() == ""


class Broken(io.StringIO):
    """A pipe whose reader went away."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def fileno(self) -> int:
        raise OSError


@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ValueError])
def test_streams_that_break_do_not_end_a_run(error):
    output = Output(stdout=Broken(error), stderr=Broken(error))
    output.info("hello")
    output(started())
    output(answered("q"))
    output(RunFinished("done", DONE, SUMMARY))
    output.render_summary(SUMMARY)
    render_summary(SUMMARY, Broken(error))
    output.close()
    assert output.progress_state.answered == 2


def test_closed_standard_streams_do_not_end_a_run(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with Output() as output:
        output.error("nobody hears")
        output(started())
        output(RunFinished("done", DONE, SUMMARY))
        render_summary(SUMMARY)


PROGRAM = """
from streaming_queue.telemetry.console import Output
output = Output()
for _ in range(20000):
    output.error("x" * 100)
    output.render_summary({"state": "done"}) if _ % 5000 == 0 else None
"""


def test_a_reader_that_leaves_early_costs_no_exit_code_and_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stderr.readline().startswith(b"[ERROR]")
    process.stdout.close()
    process.stderr.close()
    assert process.wait(20) == 0


def test_an_encoding_without_the_character_gets_its_escape():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Output(stderr=stream, stdout=io.StringIO()).info("纳 é")
    assert raw.getvalue() == b"[INFO] \\u7eb3 \\xe9\n"


def test_rich_is_imported_only_where_it_is_needed():
    program = (
        "import sys\n"
        "from streaming_queue.telemetry.console import Output\n"
        "Output().error('hello')\n"
        "sys.exit(any(name.split('.')[0] == 'rich' for name in sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=False, timeout=20
    )
    assert (done.returncode, done.stderr) == (0, b"[ERROR] hello\n")
