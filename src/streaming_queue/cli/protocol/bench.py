"""`stq protocol bench`: what a protocol costs, beside others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_queue.cli.options import AsJson
from streaming_queue.cli.text import columns, echo, echo_json

if TYPE_CHECKING:
    from streaming_queue.benchmark.comparison import Row


def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name (`stq protocol list`) or package.module:Class.")],
    against: Annotated[str, typer.Option("--against", metavar="NAMES", help="Others, joined by commas.")] = "http",
    questions: Annotated[int, typer.Option("-n", "--questions", min=1, help="Questions in each round.")] = 1000,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds, of which the median counts.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Measure a protocol beside others, in the same run.

    Each round is a whole run with four worker processes that answer at once; rounds alternate between the protocols.
    """
    from streaming_queue.benchmark.comparison import compare
    from streaming_queue.benchmark.pipeline import SLOTS, WORKERS

    others = (other.strip() for other in against.split(","))
    protocols = list(dict.fromkeys([name, *filter(None, others)]))
    rows = compare(protocols, questions=questions, rounds=rounds)
    if as_json:
        setting = {"questions": questions, "rounds": rounds, "workers": WORKERS, "slots": SLOTS}
        echo_json(json.dumps({**setting, "rows": [_entry(row) for row in rows]}, indent=2))
        return
    echo(f"{questions:,} questions, {WORKERS} workers x {SLOTS} slots, instant answers, median of {rounds} rounds\n")
    echo(table(rows))


def _entry(row: Row) -> dict[str, Any]:
    return {
        "protocol": row.protocol,
        "in_process": row.in_process,
        "questions_per_s": round(row.figures.questions_per_s, 1),
        "coordinator_us": round(row.figures.coordinator_us, 1),
        "workers_us": None if row.figures.workers_us is None else round(row.figures.workers_us, 1),
        "payload_bytes": round(row.payload_bytes, 1),
        "wire_bytes": None if row.wire_bytes is None else round(row.wire_bytes, 1),
    }


def table(rows: list[Row]) -> str:
    """The rows for people; what could not be measured is n/a."""
    heads = ("PROTOCOL", "QUESTIONS/S", "COORDINATOR CPU", "WORKERS CPU", "PAYLOAD", "WIRE")
    units = ("", "", "us/question", "us/question", "bytes/question", "bytes/question")
    cells = []
    for row in rows:
        entry = _entry(row)
        figures = [None if entry[key] is None else f"{entry[key]:,.0f}" for key in list(entry)[2:]]
        cells.append((row.protocol, *(figure or "n/a" for figure in figures)))
    widths = [max(len(cell) for cell in column) for column in zip(heads, units, *cells, strict=True)]
    lines = [
        (line[0], *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)))
        for line in (heads, units, *cells)
    ]
    shared = [row.protocol for row in rows if row.in_process]
    note = (
        f"\n\n{', '.join(shared)}: the workers are in the coordinator's process, whose CPU is everyone's"
        if shared
        else ""
    )
    return columns(lines) + note
