"""`stq protocol test`: check a backend against the contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streaming_queue.cli.options import AsJson
from streaming_queue.cli.text import echo, echo_json
from streaming_queue.exit_codes import ExitCode
from streaming_queue.telemetry.text import one_line

if TYPE_CHECKING:
    from streaming_queue.testing.report import LineResult, Report


def test(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name (`stq protocol list`) or package.module:Class.")],
    as_json: AsJson = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write a JUnit XML file too.", dir_okay=False)
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", metavar="ADDRESS", help="Ask this agent instead of hosting some.")
    ] = None,
    echoes: Annotated[bool, typer.Option("--echoes", help="That agent answers each question with its text.")] = False,
) -> int:
    """Check a backend against the contract, line by line.

    Exit code 0: every claim holds; 3: some claim fails.
    """
    from streaming_queue.testing.running import run_kit

    report = run_kit(name, endpoint=endpoint, echoes=echoes, junit=junit)
    if as_json:
        echo_json(json.dumps(report.to_json(), indent=2))
    else:
        echo(text(report))
    return ExitCode.SOME_FAILED if report.failed else ExitCode.OK


def text(report: Report) -> str:
    """The report for people: each section with its counts, then the failures, then the skipped lines with reasons."""
    from streaming_queue.testing.contract import SECTIONS

    lines = [f"{report.protocol} ({report.backend}), contract {report.kit_version}"]
    lines += [f"claims {', '.join(report.claims) or 'nothing'}", ""]
    for section, title in SECTIONS.items():
        found = [each for each in report.lines if each.line.section == section]
        lines.append(f"{section:9} {title:24} {_counts(found)}")
    lines += _failures(report)
    lines += _skips(report)
    counts = report.counts
    lines += [
        "",
        f"{counts['held']} held, {counts['failed']} failed, {counts['skipped']} skipped in {report.seconds:.1f} s",
    ]
    return "\n".join(lines)


def _counts(found: list[LineResult]) -> str:
    counts = {outcome: sum(each.outcome == outcome for each in found) for outcome in ("held", "failed", "skipped")}
    return "  ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)


def _by_text(report: Report, outcome: str) -> dict[str, list[str]]:
    """The ids of the lines that ended so, by the text of their checks."""
    found: dict[str, list[str]] = {}
    for each in report.lines:
        if each.outcome == outcome:
            for check in each.told if outcome == "failed" else ["; ".join(each.told) or "no check"]:
                found.setdefault(check, []).append(each.line.id)
    return found


def _skips(report: Report) -> list[str]:
    """Each reason with the lines that were skipped for it."""
    reasons = [f"  {one_line(reason)} ({', '.join(ids)})" for reason, ids in _by_text(report, "skipped").items()]
    return ["", "skipped:", *reasons] if reasons else []


def _failures(report: Report) -> list[str]:
    """Each failure with the lines that it breaks."""
    lines = []
    for failure, ids in _by_text(report, "failed").items():
        first, *rest = failure.splitlines()
        head = first if first.startswith(ids[0]) else f"{', '.join(ids)}: {first}"
        lines += ["", one_line(head), *map(one_line, rest)]
    return lines
