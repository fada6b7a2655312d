"""`stq protocol bench`: the cost of a protocol compared with others."""

from __future__ import annotations

import json
from dataclasses import asdict
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
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds; the result is their median.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Measure a protocol and compare it with others.

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
    figures = {**asdict(row.figures), "payload_bytes": row.payload_bytes, "wire_bytes": row.wire_bytes}
    rounded = {name: None if value is None else round(value, 1) for name, value in figures.items()}
    return {"protocol": row.protocol, "in_process": row.in_process, **rounded}


def table(rows: list[Row]) -> str:
    """The rows for people. A figure that was not measured is n/a."""
    heads = ("PROTOCOL", "QUESTIONS/S", "COORDINATOR CPU", "WORKERS CPU", "PAYLOAD", "WIRE")
    units = ("", "", "us/question", "us/question", "bytes/question", "bytes/question")
    cells = [
        (name, *("n/a" if figure is None else f"{figure:,.0f}" for figure in figures))
        for name, _, *figures in (_entry(row).values() for row in rows)
    ]
    widths = [max(len(cell) for cell in column) for column in zip(heads, units, *cells, strict=True)]
    lines = [
        (line[0], *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)))
        for line in (heads, units, *cells)
    ]
    shared = ", ".join(row.protocol for row in rows if row.in_process)
    note = f"\n\n{shared}: the workers are in the coordinator's process, so its CPU includes theirs"
    return columns(lines) + (note if shared else "")
