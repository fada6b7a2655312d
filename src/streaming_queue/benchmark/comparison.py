"""Protocols side by side: rounds alternate, so that the load of the machine is the same for all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from streaming_queue.benchmark.figures import Figures, measure, median
from streaming_queue.benchmark.pipeline import Pipeline
from streaming_queue.comm import registry
from streaming_queue.runner.event_loop import run_fast


@dataclass(frozen=True, slots=True)
class Row:
    """The cost of one protocol: medians of its rounds, and bytes per question.

    `in_process`: the workers are in the coordinator's process, so its CPU includes theirs. `wire_bytes` is None without
    a TCP connection.
    """

    protocol: str
    in_process: bool
    figures: Figures
    payload_bytes: float
    wire_bytes: float | None


def compare(protocols: Sequence[str], *, questions: int, rounds: int) -> list[Row]:
    """A row for each protocol. A round is a whole run of `questions` questions. Raises like `Pipeline`."""
    with tempfile.TemporaryDirectory(prefix="stq-bench-") as folder:
        path = Path(folder) / "questions.jsonl"
        write_questions(path, questions)
        return run_fast(_compare(protocols, path, questions, rounds))


async def _compare(protocols: Sequence[str], path: Path, questions: int, rounds: int) -> list[Row]:
    async with AsyncExitStack() as stack:
        for protocol in protocols:
            registry.load(protocol)  # an unknown name fails before anything starts
        pipelines = [await stack.enter_async_context(Pipeline(protocol, path)) for protocol in protocols]
        weights = [await pipeline.weigh() for pipeline in pipelines]  # this warms up, too
        taken: list[list[Figures]] = [[] for _ in pipelines]
        for _ in range(rounds):
            for pipeline, figures in zip(pipelines, taken, strict=True):
                figures.append(await measure(pipeline.run, questions, pipeline.pids))
    return [
        Row(
            protocol=pipeline.protocol,
            in_process=not pipeline.pids,
            figures=median(figures),
            payload_bytes=weight.payload / questions,
            wire_bytes=None if weight.wire is None else weight.wire / questions,
        )
        for pipeline, weight, figures in zip(pipelines, weights, taken, strict=True)
    ]


def write_questions(path: Path, count: int) -> list[str]:
    """Write `count` questions to a JSON Lines file. Return their texts."""
    texts = [f"Question {number}: what is {number} plus {number * 7}?" for number in range(count)]
    lines = (json.dumps({"id": f"q{number}", "question": text}) for number, text in enumerate(texts))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return texts
