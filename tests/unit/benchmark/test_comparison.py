from __future__ import annotations

import json
from pathlib import Path

import pytest
from conformance.client_only import ClientOnly

from streaming_queue.benchmark.comparison import compare, write_questions
from streaming_queue.benchmark.pipeline import Pipeline
from streaming_queue.comm import registry
from streaming_queue.errors import ConfigError, StreamingQueueError


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    write_questions(path, 20)
    return path


def test_protocols_are_measured_side_by_side() -> None:
    http, inproc = compare(["http", "inproc"], questions=20, rounds=1)
    assert (http.protocol, http.in_process) == ("http", False)
    assert (inproc.protocol, inproc.in_process) == ("inproc", True)
    assert http.payload_bytes == inproc.payload_bytes > 50
    assert http.wire_bytes is not None
    assert http.wire_bytes > 2 * http.payload_bytes
    assert inproc.wire_bytes is None
    assert http.figures.workers_us is not None
    assert inproc.figures.workers_us is None
    for row in (http, inproc):
        assert row.figures.questions_per_s > 0
        assert row.figures.coordinator_us > 0


async def test_what_is_weighed_is_what_went_over_the_wire(questions: Path) -> None:
    texts = [json.loads(line)["question"] for line in questions.read_text().splitlines()]
    async with Pipeline("http", questions, workers=1) as pipeline:
        assert len(pipeline.pids) == 1
        weight = await pipeline.weigh()
        await pipeline.run()
    (run,) = questions.parent.glob("http-1/results.jsonl")
    rows = [json.loads(line) for line in run.read_text().splitlines()]
    assert weight.payload == sum(len(row["question"] + row["answer"]) for row in rows)
    assert sorted(row["question"] for row in rows) == sorted(texts)
    assert weight.wire is not None
    assert weight.wire > weight.payload


async def test_who_hosts_nothing_cannot_be_measured(questions: Path, monkeypatch) -> None:
    monkeypatch.setattr(registry, "load", lambda _: ClientOnly)
    with pytest.raises(ConfigError, match="protocol 'http' hosts no agents"):
        async with Pipeline("http", questions):
            pass


async def test_a_run_that_failed_is_no_figure(tmp_path: Path) -> None:
    async with Pipeline("inproc", tmp_path / "missing.jsonl") as pipeline:
        with pytest.raises(StreamingQueueError, match="protocol 'inproc': a run ended with 2, so nothing was measured"):
            await pipeline.run()
