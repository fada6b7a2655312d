"""The live picture of a run on a terminal. Imports rich: import this module only for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import ROUNDED
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streaming_queue.telemetry.progress import RunProgress, WorkerProgress
from streaming_queue.telemetry.text import NONE, clock, figure, one_line, percent, rate

MOST_WORKERS = 12
_LINES_BESIDE_WORKERS = 11
_WIDE = 84
WIDEST = 110
_SPARKS = "▁▂▃▄▅▆▇█"
_HEADINGS = ("in flight", "answered", "errors", "response ms", "protocol ms")
_SHORT_HEADINGS = ("flight", "answers", "errors", "resp ms", "prot ms")
MOCK_BADGE = (" MOCK ", "bold black on yellow")
PAUSED_BADGE = (" PAUSED ", "bold white on red")
WAITING_BADGE = (" WAITING ", "bold black on yellow")


class LiveView:
    """A rich renderable of a `RunProgress`: each rendering draws the present figures."""

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the picture to fit the terminal."""
        progress = self._progress
        room = max(1, min(MOST_WORKERS, (options.height or console.height) - _LINES_BESIDE_WORKERS))
        parts: list[RenderableType] = [_headline(progress), _figures(progress, wide=options.max_width >= _WIDE)]
        if note := progress.waiting or progress.slowest():
            parts.append(Text(one_line(note, 400), style="yellow"))
        if progress.workers:
            parts += ["", _workers(list(progress.workers.values()), room, wide=options.max_width >= _WIDE)]
        yield Panel(
            Group(*parts),
            title=_title(progress),
            title_align="left",
            box=ROUNDED,
            border_style="cyan",
            padding=(0, 1),
            width=min(options.max_width, WIDEST),
        )


def _title(progress: RunProgress) -> Text:
    title = Text().append("streaming queue", style="bold cyan")
    names = ", ".join(one_line(name, 20) for name in progress.protocols[:3])
    if names:
        title.append(f" · {names}", style="bold")
    if progress.mock:
        title.append(" ").append(*MOCK_BADGE)
    if progress.state == "paused":
        title.append(" ").append(*PAUSED_BADGE)
    elif progress.waiting:
        title.append(" ").append(*WAITING_BADGE)
    return title


def _headline(progress: RunProgress) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1)
    for _ in range(3):
        grid.add_column(justify="right", no_wrap=True)
    eta = progress.eta_s()
    reading = progress.reading
    rest = (f" of {progress.total:,}", (" read so far", "dim italic")) if reading else (f" / {progress.total:,}",)
    bar = ProgressBar(
        total=max(1, progress.total),
        completed=progress.settled,
        pulse=reading and not progress.total,
        complete_style="bar.complete" if reading else "cyan",
        finished_style="bar.finished" if reading else "green",
    )
    grid.add_row(
        bar,
        Text(NONE if reading else percent(progress.share), style="bold cyan"),
        Text.assemble((f"{progress.settled:,}", "bold"), *rest),
        Text(f"ETA {clock(eta)}", style="dim" if eta is None else ""),
    )
    return grid


def _figures(progress: RunProgress, *, wide: bool) -> RenderableType:
    line = Text(no_wrap=True, overflow="ellipsis")
    for mark, value, name, style in (
        ("✔", progress.answered, "answered", "green"),
        ("✘", progress.failed, "failed", "red" if progress.failed else "dim"),
        ("↻", progress.retried, "retried", "yellow" if progress.retried else "dim"),
    ):
        line.append(f"{mark} {value:,} ", style=f"bold {style}" if style != "dim" else style)
        line.append(f"{name}   ", style="dim")
    line.append(f"{progress.in_flight}", style="bold")
    line.append(f" / {progress.concurrency} in flight   ", style="dim")
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    right = Text()
    if wide:
        right.append(sparkline(progress.history()[-20:]), style="cyan")
    right.append(f" {rate(progress.rate())}", style="bold")
    right.append(f"  {clock(progress.elapsed_s)}", style="dim")
    grid.add_row(line, right)
    return grid


def _workers(workers: Sequence[WorkerProgress], room: int, *, wide: bool) -> RenderableType:
    """One line per worker, workers in trouble first; a line at the end counts the workers that do not fit."""
    table = Table(box=None, expand=True, padding=(0, 1), header_style="dim", pad_edge=False, show_edge=False)
    table.add_column("worker", no_wrap=True, overflow="ellipsis", min_width=10, max_width=30)
    table.add_column("", no_wrap=True, width=6)
    if wide:
        table.add_column("", no_wrap=True, ratio=1)
    for name in _HEADINGS if wide else _SHORT_HEADINGS:
        table.add_column(name, justify="right", no_wrap=True, overflow="ellipsis")
    most = max((worker.answered for worker in workers), default=0)
    shown = workers
    if len(workers) > room:
        shown = sorted(workers, key=lambda worker: worker.up)[: max(1, room - 1)]
    for worker in shown:
        state = ("● up", "green") if worker.up else ("● out", "red") if worker.final else ("● down", "yellow")
        cells: list[RenderableType] = [
            Text(one_line(worker.name, 60), style="bold" if worker.up else "dim"),
            Text(*state),
        ]
        if wide:
            cells.append(
                ProgressBar(total=max(1, most), completed=worker.answered, complete_style="cyan", finished_style="cyan")
            )
        cells += [
            Text(str(worker.in_flight)),
            Text(f"{worker.answered:,}", style="green" if worker.answered else "dim"),
            Text(f"{worker.errors:,}", style="red" if worker.errors else "dim"),
            Text(figure(worker.mean_response_ms)),
            Text(figure(worker.mean_protocol_ms), style="magenta"),
        ]
        table.add_row(*cells)
    hidden = len(workers) - len(shown)
    if hidden:
        up = sum(worker.up for worker in workers) - sum(worker.up for worker in shown)
        return Group(table, Text(f"… {hidden} more, {up} of them up", style="dim"))
    return table


def sparkline(values: Sequence[float]) -> str:
    """Values as a row of bars; the highest is full."""
    highest = max(values, default=0.0)
    if highest <= 0:
        return ""
    return "".join(_SPARKS[min(len(_SPARKS) - 1, int(value / highest * len(_SPARKS)))] for value in values)
