"""The summary of a run on one screen. Imports rich: import this module only for printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import ASCII2, ROUNDED, Box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streaming_queue.telemetry.text import duration, figure, one_line, percent, rate

_MOST_WORKERS = 24
_MOST_NAMED = 5
_STATES = {"done": ("done", "bold green"), "stopped": ("stopped", "bold yellow"), "failed": ("failed", "bold red")}
_METRICS = (
    ("response", "response_time", 1000),
    ("queue", "queue_ms", 1),
    ("protocol", "protocol_ms", 1),
    ("LLM", "llm_ms", 1),
    ("first token", "ttft_ms", 1),
)
_COLUMNS = ("mean", "p50", "p95", "p99", "max")
_SPLIT = (("queue", "queue_ms", "blue"), ("protocol", "protocol_ms", "magenta"), ("LLM", "llm_ms", "cyan"))
_WIDE = 84


class SummaryView:
    """A rich renderable of a summary (`report.summary.write_results`), without the parts whose keys are missing."""

    def __init__(self, summary: Mapping[str, Any]) -> None:
        self._summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it to fit, in ASCII if the encoding has no more."""
        summary, ascii_only = self._summary, options.ascii_only
        wide = options.max_width >= _WIDE
        parts = [_facts(summary), *_timings(summary, wide=wide)]
        parts += _split(summary, width=44 if wide else 16, ascii_only=ascii_only)
        parts += [*_protocols(summary), *_workers(summary, wide=wide), *_notes(summary)]
        state = str(summary.get("state"))
        box: Box = ASCII2 if ascii_only else ROUNDED
        yield Panel(
            Group(*parts),
            title=_title(summary, ascii_only=ascii_only),
            title_align="left",
            box=box,
            border_style=_STATES.get(state, ("", "cyan"))[1].removeprefix("bold "),
            padding=(1, 2),
            width=min(options.max_width, 104),
        )


def _title(summary: Mapping[str, Any], *, ascii_only: bool) -> Text:
    dot = "-" if ascii_only else "·"
    state = str(summary.get("state", ""))
    title = Text().append(*_STATES.get(state, (one_line(state, 20), "bold")))
    protocols = summary.get("protocols") or ()
    few = len(protocols) <= _MOST_NAMED
    protocol_text = (", ".join(map(str, protocols)) if few else f"{len(protocols)} protocols") or summary.get(
        "protocol"
    )
    if protocol_text:
        chosen = "auto: " if summary.get("auto") else ""
        title.append(f" {dot} {chosen}{one_line(protocol_text, 40)}", style="bold")
    provider = summary.get("provider")
    if isinstance(provider, Mapping):
        model = provider.get("model") or provider.get("name")
        if model:
            title.append(f" {dot} {one_line(model, 40)}")
    if summary.get("run_id"):
        title.append(f" {dot} {one_line(summary['run_id'], 60)}", style="dim")
    return title


def _mock_note(summary: Mapping[str, Any]) -> Text | None:
    """The note that the mock made up the answers, with the reason; None if a model answered."""
    if not summary.get("mock"):
        return None
    answered, mocked = summary.get("answered") or 0, summary.get("mock_answers") or 0
    partly = 0 < mocked < answered
    note = Text.assemble((" MOCK ", "bold black on yellow"), "  ")
    note.append(
        f"{mocked:,} of {answered:,} answers were made up by the mock provider, not by a model"
        if partly
        else "answers were made up by the mock provider, not by a model",
        style="yellow",
    )
    provider = summary.get("provider")
    reason = provider.get("reason") if isinstance(provider, Mapping) else None
    if reason:
        note.append(f" ({one_line(reason, 200)})", style="yellow")
    return note


def _facts(summary: Mapping[str, Any]) -> RenderableType:
    failed, left = summary.get("failed") or 0, summary.get("open") or 0
    line = Text()
    line.append(f"{summary.get('answered') or 0:,}", style="bold green")
    line.append(" answered   ", style="dim")
    line.append(f"{failed:,}", style="bold red" if failed else "bold")
    line.append(" failed   ", style="dim")
    if left:
        line.append(f"{left:,}", style="bold yellow")
        line.append(" not asked   ", style="dim")
    line.append(f"of {summary.get('questions') or 0:,} questions in ", style="dim")
    line.append(duration(summary.get("seconds")), style="bold")
    line.append("   ")
    line.append(rate(summary.get("questions_per_s")), style="bold cyan")
    if truncated := summary.get("truncated"):
        line.append(f"\n{truncated:,} of the answers were cut by a limit of tokens (core.max_tokens)", style="yellow")
    mock = _mock_note(summary)
    return Group(mock, "", line) if mock is not None else line


def _table(first: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(first, no_wrap=True, overflow="ellipsis", min_width=12)
    return table


def _timings(summary: Mapping[str, Any], *, wide: bool) -> Sequence[RenderableType]:
    timings = summary.get("timings") or {}
    measured = [(name, timings[key], scale) for name, key, scale in _METRICS if (timings.get(key) or {}).get("count")]
    if not measured:
        return ()
    table = _table("milliseconds")
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True, min_width=8 if wide else 5)
    for name, values, scale in measured:
        style = {"protocol": "magenta", "response": "bold"}.get(name, "")
        cells = [figure(None if values[column] is None else values[column] * scale) for column in _COLUMNS]
        table.add_row(name, *cells, style=style)
    return "", table


def _split(summary: Mapping[str, Any], *, width: int, ascii_only: bool) -> Sequence[RenderableType]:
    """The mean time of a question by part, as one bar."""
    timings = summary.get("timings") or {}
    means = [(name, (timings.get(key) or {}).get("mean"), style) for name, key, style in _SPLIT]
    known = [(name, mean, style) for name, mean, style in means if mean is not None]
    whole = sum(mean for _, mean, _ in known)
    if not whole:
        return ()
    bar, legend = Text(), Text()
    for name, mean, style in known:
        cells = max(1, round(mean / whole * width)) if mean else 0
        bar.append((name[0] if ascii_only else "█") * cells, style=style)
        legend.append(f"{name} ", style=style)
        legend.append(f"{percent(mean / whole)}   ", style="dim")
    return "", Text.assemble(bar, "  ", legend)


def _protocols(summary: Mapping[str, Any]) -> Sequence[RenderableType]:
    """The figures of each protocol, if the run has several."""
    protocols = summary.get("protocols") or {}
    if len(protocols) < 2:
        return ()
    table = _table("protocol (ms)")
    chosen = (summary.get("auto") or {}).get("protocols") or {}
    names = ("questions", "success", "response p50", "overhead p50")
    for name in (*names, "explored", "held back") if chosen else names:
        table.add_column(name, justify="right", no_wrap=True)
    for name, figures in protocols.items():
        share, choice = figures.get("success_share"), chosen.get(name) or {}
        decided = (choice.get("taken", {}).get("explored"), sum(choice.get("held_back", {}).values()))
        table.add_row(
            Text(one_line(name, 40)),
            f"{(figures.get('answered') or 0) + (figures.get('failed') or 0):,}",
            Text(percent(share), style="red" if share is not None and share < 1 else "green"),
            figure(_ms(figures.get("response_time_p50"))),
            Text(figure(figures.get("protocol_ms_p50")), style="magenta"),
            *(f"{count or 0:,}" for count in (decided if chosen else ())),
        )
    return "", table


def _workers(summary: Mapping[str, Any], *, wide: bool) -> Sequence[RenderableType]:
    workers = summary.get("workers") or {}
    if not workers:
        return ()
    table = _table("worker (ms)")
    names = ("answered", "failed", "per s", "response p50", "p95", "queue", "protocol", "LLM")
    for name in names if wide else ("answered", "failed", "p50", "p95", "protocol"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, figures in list(workers.items())[:_MOST_WORKERS]:
        failed = figures.get("failed") or 0
        count = (
            Text(f"{figures.get('answered') or 0:,}", style="green"),
            Text(f"{failed:,}", style="red" * bool(failed)),
        )
        response = [figure(_ms(figures.get(f"response_time_{percentile}"))) for percentile in ("p50", "p95")]
        queue, protocol, llm = (figure(figures.get(f"{key}_ms_p50")) for key in ("queue", "protocol", "llm"))
        cost = Text(protocol, style="magenta")
        cells: list[RenderableType] = [*response, queue, cost, llm] if wide else [*response, cost]
        pace = [figure(figures.get("questions_per_s"))] if wide else []
        table.add_row(Text(one_line(name, 40)), *count, *pace, *cells)
    hidden = len(workers) - _MOST_WORKERS
    parts: list[RenderableType] = ["", table]
    if hidden > 0:
        parts.append(Text(f"and {hidden:,} more in the report", style="dim"))
    return parts


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _notes(summary: Mapping[str, Any]) -> Sequence[RenderableType]:
    """The protocol's share, repeated work, and the paths of the files."""
    parts: list[RenderableType] = []
    words = []
    if summary.get("overhead_share") is not None:
        words.append(f"protocol overhead: {percent(summary['overhead_share'])} of the response time")
    for key, name in (
        ("re_executions", "asked again"),
        ("late_duplicates_rejected", "late duplicates rejected"),
        ("losses", "lost with their worker"),
        ("hedged", "sent to a second worker because they were slow"),
    ):
        if summary.get(key):
            words.append(f"{name}: {summary[key]:,}")
    if words:
        parts += ["", Text(", ".join(words), style="dim")]
    if concurrency := summary.get("concurrency"):
        words = [f"{one_line(name, 40)} {limit}" for name, limit in list(concurrency.items())[:_MOST_WORKERS]]
        parts += ["", Text(f"adapted questions at a time: {', '.join(words)}", style="dim")]
    files = summary.get("files") or ()
    if files:
        parts.append("")
        parts += [Text.assemble(("written  ", "dim"), one_line(path)) for path in files]
    return parts
