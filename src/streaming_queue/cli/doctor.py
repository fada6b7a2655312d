"""`stq doctor`: problems of this machine, a run or an agent, each with its remedy."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streaming_queue.cli import completion
from streaming_queue.cli.options import AsJson, ConfigPath, ProtocolName, Sets, Trust
from streaming_queue.cli.repair import repair as export
from streaming_queue.cli.text import Coloured, echo, print_json
from streaming_queue.errors import ConfigError
from streaming_queue.telemetry.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streaming_queue.doctor.finding import Finding

_COLOURS = {"ok": "32", "warning": "33", "problem": "1;31"}
_NARROWEST = 40


def doctor(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|ADDRESS|FILE",
            help="Directory of a run, address of an agent (http://host:port, stdio:COMMAND), or file of settings. "
            "[the settings]",
            show_default=False,
            autocompletion=completion.runs,
        ),
    ] = None,
    config: ConfigPath = None,
    protocol: ProtocolName = None,
    sets: Sets = None,
    trust: Trust = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Export what a damaged run still has into a new directory.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="NEW", help="New directory, with --repair. [RUN-repaired]"),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check this machine, a run or an agent, and say what to do.

    It changes nothing and asks no model. Exit 0: no problem; 2: settings, machine or directory; 69: an agent or the
    provider does not answer; 77: one of them refuses the credential.
    """
    if repair:
        if target is None:
            raise ConfigError("--repair: name the directory of the run")
        return export(Path(target), output, as_json=as_json)
    if output is not None:
        raise ConfigError("--output goes with --repair")
    import asyncio

    from streaming_queue.doctor.examination import examine
    from streaming_queue.doctor.finding import verdict
    from streaming_queue.doctor.plan import plan_for

    plan = plan_for(target, config, protocol=protocol, sets=sets or (), trust=trust)
    findings = asyncio.run(examine(plan.checks, secrets=plan.secrets))
    code = verdict(findings)
    if as_json:
        keys = ("check", "level", "seen", "remedy")
        listed = [{key: getattr(finding, key) for key in keys} for finding in findings]
        print_json({"ok": code == 0, "findings": listed})
    else:
        for line in page(findings):
            echo(*line)
    return code


def page(findings: Sequence[Finding]) -> list[list[str | Coloured]]:
    """A line for each finding, its remedy below it, and the counts at the end; wrapped to the width of a terminal."""
    level_width = max(map(len, _COLOURS))
    check_width = max(len(one_line(finding.check)) for finding in findings)
    indent = " " * (level_width + check_width + 4)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    lines: list[list[str | Coloured]] = []
    for finding in findings:
        label = Coloured(finding.level.ljust(level_width), _COLOURS[finding.level])
        seen = _wrapped(finding.seen, indent, width)
        lines.append([label, f"  {one_line(finding.check).ljust(check_width)}  {seen.lstrip()}"])
        if finding.remedy:
            lines.append([_wrapped(f"remedy: {finding.remedy}", indent, width)])
    first, *others = (_counted(findings, level) for level in _COLOURS)
    return [*lines, [], [first, *(piece for count in others for piece in (", ", count))]]


def _counted(findings: Sequence[Finding], level: str) -> Coloured:
    count = sum(finding.level == level for finding in findings)
    return Coloured(f"{count} {level}{'' if level == 'ok' or count == 1 else 's'}", _COLOURS[level])


def _wrapped(text: str, indent: str, width: int) -> str:
    room = max(width, len(indent) + _NARROWEST)
    return textwrap.fill(one_line(text), room, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
