"""results.json, the whole report of a run, written as a stream; and the summary for the terminal."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from streaming_queue.errors import ConfigError, StreamingQueueError, disk_error
from streaming_queue.report.files import open_temporary, replacing, temporary_name
from streaming_queue.report.performance import METRICS, Performance
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.telemetry.json_lines import encode

if TYPE_CHECKING:
    from streaming_queue.messages import Counts
    from streaming_queue.queue.base import WorkQueue

_COPY_BYTES = 1024 * 1024
_SHARES = ("answered", "failed", "success_share", "questions_per_s", "overhead_share")
_PERCENTILES = (
    *(("response_time", "p50"), ("response_time", "p95")),
    *(("queue_ms", "p50"), ("protocol_ms", "p50"), ("llm_ms", "p50")),
)
"""The main figures of a worker or a protocol."""


async def write_results(
    directory: RunDirectory,
    queue: WorkQueue,
    *,
    state: str,
    seconds: float,
    workers: Iterable[str] = (),
    result_file: str | Path | None = None,
) -> dict[str, Any]:
    """Write results.json from results.jsonl, which a finished `Projection` completed, and return the summary.

    The file is replaced whole and durably, and copied to `result_file` in the same way if that is given. Memory is
    about 100 bytes per row, for answers of any size. `state` is the end of the run, `seconds` its working time since
    its start or resume; the seconds of the manifest's earlier summary are added. `workers` are the pool's ids. The
    manifest on disk does not change: the caller calls `directory.update`.

    Returns the summary, for run.json and the terminal: run_id, protocol, provider, state, finished, questions,
    answered, failed, open, seconds, questions_per_s, overhead_share, mock, mock_answers, truncated,
    load_balance_variance, the queue's stats, `timings` (each metric described), `workers` and `protocols` (the main
    figures of each) and `files`.

    Raises:
        StreamingQueueError: a file cannot be read or written.
    """
    counts = await queue.counts()
    stats = await queue.stats()
    metadata = _metadata(directory, state, seconds, counts, stats)
    return await asyncio.to_thread(_write, directory, metadata, counts, Performance(workers), result_file)


def check_result_file(path: str | Path) -> None:
    """Check before a run that a report can be written to `path`, and make its folder. Blocks.

    Raises:
        ConfigError: it cannot be written, or `path` is not a file.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        kind = "a directory" if target.is_dir() else "not a regular file"
        raise ConfigError(f"result_file: {path} is {kind}; give the path of a file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.close(open_temporary(target))
        temporary_name(target).unlink()
    except OSError as error:
        text = f"result_file: {path} cannot be written: {error.strerror}; choose another path"
        raise disk_error(path, error) or ConfigError(text) from error


def _metadata(
    directory: RunDirectory, state: str, seconds: float, counts: Counts, stats: Mapping[str, int]
) -> dict[str, Any]:
    facts = {key: value for key, value in directory.manifest.items() if key not in ("state", "summary", "mark")}
    return facts | {
        "state": state,
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "seconds": _worked_s(directory.manifest.get("summary"), seconds, counts),
        "counts": asdict(counts),
        "stats": dict(stats),
    }


def _worked_s(earlier: Mapping[str, Any] | None, seconds: float, counts: Counts) -> float:
    """The working time of the run over all its resumes; a resume without open questions adds nothing."""
    if not earlier:
        return seconds
    before: float = earlier["seconds"]
    settled = (earlier["questions"], earlier["answered"], earlier["failed"]) == (counts.total, counts.done, counts.dead)
    return before if settled and not earlier["open"] else before + seconds


def _write(
    directory: RunDirectory,
    metadata: dict[str, Any],
    counts: Counts,
    rows: Performance,
    result_file: str | Path | None,
) -> dict[str, Any]:
    target = directory.results_json
    copy = Path(result_file).resolve() if result_file is not None else None
    try:
        with directory.results_jsonl.open("rb") as lines:
            for line in lines:
                rows.add(orjson.loads(line))
        performance = rows.report(metadata["seconds"])
        metadata |= {"mock_answers": rows.mock_answers, "truncated": rows.truncated}
        with replacing(target) as file, directory.results_jsonl.open("rb") as lines:
            _write_report(file, metadata, performance, lines)
        if copy is not None and copy != target.resolve():
            target, source = copy, target
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as file, source.open("rb") as report:
                shutil.copyfileobj(report, file, _COPY_BYTES)
    except OSError as error:
        raise disk_error(error.filename or target, error) or StreamingQueueError(
            f"{error.filename or target}: the report cannot be written: {error.strerror}; no answer is lost: "
            f"`stq resume {directory.path}` writes it again"
        ) from error
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise StreamingQueueError(
            f"{directory.results_jsonl}: a line is no row of results ({error}); something else wrote to the file: "
            f"`stq resume {directory.path}` writes it again"
        ) from error
    files = [directory.results_jsonl, directory.results_json, *([copy] if copy else [])]
    return _summary(metadata, counts, performance) | {"files": [str(path) for path in files]}


def _write_report(file: BinaryIO, metadata: dict[str, Any], performance: dict[str, Any], lines: BinaryIO) -> None:
    """Write one JSON object with one row per line, for pagers and `diff`."""
    file.write(b'{\n"metadata": ' + encode(metadata, indent=True))
    file.write(b',\n"performance": ' + encode(performance, indent=True))
    file.write(b',\n"results": [')
    separator = b"\n"
    for line in lines:
        file.write(separator + line.rstrip(b"\n"))
        separator = b",\n"
    file.write(b"\n]\n}\n")


def _summary(metadata: Mapping[str, Any], counts: Counts, performance: Mapping[str, Any]) -> dict[str, Any]:
    overall = performance["overall"]
    provider = metadata.get("provider")
    return {
        **{key: metadata[key] for key in ("run_id", "protocol")},
        "provider": provider,
        **{key: metadata[key] for key in ("state", "finished")},
        "questions": counts.total,
        "answered": overall["answered"],
        "failed": overall["failed"],
        "open": counts.open,
        "seconds": metadata["seconds"],
        "questions_per_s": overall["questions_per_s"],
        "overhead_share": overall["overhead_share"],
        "mock": bool(isinstance(provider, Mapping) and provider.get("mock")) or metadata["mock_answers"] > 0,
        "mock_answers": metadata["mock_answers"],
        "truncated": metadata["truncated"],
        "load_balance_variance": performance["load_balance_variance"],
        **metadata["stats"],
        "timings": {metric: overall[metric] for metric in METRICS},
        "workers": {worker: _main(figures) for worker, figures in performance["workers"].items()},
        "protocols": {protocol: _main(figures) for protocol, figures in performance["protocols"].items()},
    }


def _main(figures: Mapping[str, Any]) -> dict[str, Any]:
    percentiles = {f"{metric}_{name}": figures[metric][name] for metric, name in _PERCENTILES}
    return {key: figures[key] for key in _SHARES} | percentiles
