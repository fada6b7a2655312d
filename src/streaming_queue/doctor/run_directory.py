"""Check the directory of a run: its state, and the way to go on with it."""

from __future__ import annotations

import shlex
from pathlib import Path

from streaming_queue.doctor.finding import Finding, failure, ok, problem, warning
from streaming_queue.errors import ConfigError, QueueError
from streaming_queue.queue.inspection import Inspection, inspect
from streaming_queue.report.run_directory import RunDirectory

MOST_COUNTED_BYTES = 1024**3
"""A larger file of rows is not counted."""
_CHUNK_BYTES = 1024 * 1024


def run_directory(path: Path) -> list[Finding]:
    """Check the manifest, owner, database and rows of a run, and name the next step."""
    directory, broken = RunDirectory(path, {}), None
    try:
        directory.refuse_links()
    except ConfigError as error:
        return [failure("files", error, "remove the link; files that belong to the run are copied into its directory")]
    try:
        directory = RunDirectory.open(path)
    except ConfigError as error:
        broken = failure("run.json", error, _restore(directory))
        if not directory.queue_path.exists():
            return [broken]
    inspection, queue = _queue(directory)
    findings = [broken or _manifest(directory, inspection), queue]
    if inspection is not None:
        findings += [_owner(inspection), _results(directory, inspection)]
        if broken is None:
            findings.append(_next(directory, inspection))
    return findings


def _restore(directory: RunDirectory) -> str:
    if directory.queue_path.exists() or directory.results_jsonl.exists():
        return "restore run.json from a copy; results.jsonl holds the rows so far in any case"
    return "give the directory that `stq run` printed at its end, or begin a run: stq run -o DIR"


def _manifest(directory: RunDirectory, inspection: Inspection | None) -> Finding:
    facts = directory.manifest
    seen = f"run {facts['run_id']}, {facts['state']}, over {facts['protocol']}"
    if facts["state"] == "running" and inspection is not None and inspection.owner is None:
        return warning("run.json", f"{seen}, but no process works on it: it was killed", _resume(directory))
    return ok("run.json", seen)


def _queue(directory: RunDirectory) -> tuple[Inspection | None, Finding]:
    path = directory.queue_path
    try:
        found = inspect(path)
    except FileNotFoundError:
        if _rows(directory.results_jsonl) != 0:
            remedy = (
                "restore it from a copy; a resume without it would ask all questions again and replace results.jsonl"
            )
            return None, problem("queue.db", f"{path} is gone, but results.jsonl has rows of it", remedy)
        return None, warning("queue.db", "there is none: no question was read yet", _resume(directory))
    except QueueError as error:
        remedy = f"stq doctor {shlex.quote(str(directory.path))} --repair exports what can be read, to a new directory"
        return None, problem("queue.db", str(error), remedy)
    if found.counts is None:
        seen = f"{path.stat().st_size / 1024**2:,.0f} MiB, and its process was killed: too large to read"
        return found, warning("queue.db", seen, f"{_resume(directory)} checks it")
    counts = found.counts
    figures = f"{counts.done:,} answered, {counts.dead:,} failed, {counts.open:,} open"
    if found.owner:
        return found, ok("queue.db", f"{figures}; in use, so its pages were not checked")
    extent = "all pages are whole" if found.whole else "the pages checked in a second are whole, the rest was not"
    return found, ok("queue.db", f"{figures}; {extent}" + ("; its last owner was killed" if found.unclean else ""))


def _owner(inspection: Inspection) -> Finding:
    return ok("owner", f"{inspection.owner} works on it" if inspection.owner else "no process works on it")


def _results(directory: RunDirectory, inspection: Inspection) -> Finding:
    rows = _rows(directory.results_jsonl)
    if rows is None:
        return ok("results.jsonl", "too large to count its rows; a resume checks it")
    if inspection.counts is None:
        return ok("results.jsonl", f"{rows:,} rows")
    ended = inspection.counts.done + inspection.counts.dead
    if rows == ended or inspection.owner:
        return ok("results.jsonl", f"{rows:,} rows")
    seen = f"{rows:,} rows, but {ended:,} questions have ended"
    return warning("results.jsonl", seen, f"{_resume(directory)} writes it anew from queue.db")


def _rows(path: Path) -> int | None:
    """Number of whole lines; None if the file is too large to count them."""
    try:
        if path.stat().st_size > MOST_COUNTED_BYTES:
            return None
        with path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""))
    except FileNotFoundError:
        return 0


def _next(directory: RunDirectory, inspection: Inspection) -> Finding:
    counts, complete = inspection.counts, (inspection.bookmark or {}).get("complete") is True
    if inspection.owner:
        return ok("next", "the run goes on", f"wait for it; `stq stop {_quoted(directory)}` ends it early")
    if counts is None or counts.open or not complete:
        left = "not known how many" if counts is None else f"{counts.open:,}"
        more = "" if complete or counts is None else ", and not all of the source was read"
        return ok("next", f"questions left: {left}{more}", f"{_resume(directory)} goes on with them")
    if counts.dead:
        seen = f"all have ended, {counts.dead:,} of them failed"
        path = _quoted(directory)
        return ok("next", seen, f"`stq dlq list {path}` says why, `stq dlq replay {path}` puts them back")
    return ok("next", "all are answered; nothing is left to do")


def _resume(directory: RunDirectory) -> str:
    return f"stq resume {_quoted(directory)}"


def _quoted(directory: RunDirectory) -> str:
    return shlex.quote(str(directory.path))
