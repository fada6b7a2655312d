from __future__ import annotations

import io

import pytest
from rich.console import Console
from unit.telemetry.runs import Clock, answered, started

from streaming_queue.messages import Failure
from streaming_queue.telemetry.events import DeadLettered, IntakeFinished, Paused, Queued, Retried, Sent, WorkerDown
from streaming_queue.telemetry.live import LiveView, sparkline
from streaming_queue.telemetry.progress import RunProgress


def picture(progress: RunProgress, width: int = 110, height: int = 35) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(LiveView(progress))
    return console.file.getvalue()


def busy(workers: int = 3, clock: Clock | None = None) -> RunProgress:
    clock = clock or Clock()
    progress = RunProgress(clock)
    progress.apply(started(workers=workers))
    progress.apply(Queued(1000, 0, 1000))
    for number in range(50):
        clock.now += 0.5
        progress.apply(Sent(f"q-{number}", "Worker-1", 1))
        progress.apply(answered(f"q-{number}", f"Worker-{number % 2 + 1}"))
    progress.apply(Sent("q-x", "Worker-2", 1))
    progress.apply(Retried("q-x", Failure("ConnectError", "gone", "Worker-2"), 1, counted=True))
    progress.apply(DeadLettered("q-y", Failure("RemoteError", "it broke", "Worker-2"), 3))
    progress.apply(Sent("q-z", "Worker-1", 1))
    return progress


def test_the_picture_while_questions_are_still_read():
    shown = picture(busy())
    assert "streaming queue · a2a  MOCK " in shown
    assert "51 of 1,000 read so far" in shown
    assert "ETA -" in shown
    assert "%" not in shown


def test_the_picture_once_the_total_is_known():
    progress = busy()
    progress.apply(IntakeFinished(1000, 0, 0))
    progress.apply(WorkerDown("Worker-3", "reset"))
    lines = picture(progress).splitlines()
    assert "5.1 %  51 / 1,000  ETA 7:25" in lines[1]
    for words in ("✔ 50 answered", "✘ 1 failed", "↻ 1 retried", "1 / 8 in flight", "2.13/s  0:25"):
        assert words in lines[2]
    cells = [line.strip("│ ").replace("━", "").replace("╺", "").replace("╸", "").split() for line in lines[5:8]]
    assert cells == [
        ["Worker-1", "●", "up", "1", "25", "0", "250", "2.00"],
        ["Worker-2", "●", "up", "0", "25", "2", "250", "2.00"],
        ["Worker-3", "●", "down", "0", "0", "0", "-", "-"],
    ]


@pytest.mark.parametrize("width", [40, 66, 83, 84, 110, 200])
def test_it_fits_the_terminal(width):
    lines = picture(busy(), width).splitlines()
    assert max(len(line) for line in lines) <= min(width, 110)
    assert "Worker-1" in picture(busy(), max(width, 60))


def test_many_workers_are_counted_and_the_ones_in_trouble_shown():
    progress = busy(workers=200)
    progress.apply(WorkerDown("Worker-150", "reset", final=True))
    shown = picture(progress)
    assert "Worker-150  ● out" in shown
    assert "… 189 more, 189 of them up" in shown
    assert len(shown.splitlines()) <= 18
    assert len(picture(progress, height=14).splitlines()) <= 13


def test_a_hostile_name_is_shown_and_not_obeyed():
    progress = RunProgress(Clock())
    progress.apply(started())
    progress.apply(answered("q", "\x1b[2J[red]x\n"))
    assert r"\x1b[2J[red]x\n" in picture(progress)
    assert "\x1b[2J" not in picture(progress)


def test_a_run_of_nothing_is_drawn_too():
    assert "0 of 0 read so far" in picture(RunProgress(Clock()))


def test_a_sparkline_is_scaled_to_its_highest():
    assert sparkline([0, 1, 4, 8]) == "▁▂▅█"
    assert sparkline([]) == sparkline([0, 0]) == ""


def test_a_paused_run_has_its_badge():
    progress = busy()
    assert "PAUSED" not in picture(progress)
    progress.apply(Paused("run"))
    assert " PAUSED " in picture(progress)
