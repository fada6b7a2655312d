from __future__ import annotations

import statistics

import pytest
from unit.report.record import Record

from streaming_queue.report.performance import METRICS, Performance


def rows(*ends) -> Performance:
    performance = Performance(["Worker-1", "Worker-2", "Worker-10"])
    record = Record()
    for number, (worker, answer, figures) in enumerate(ends):
        performance.add(record.end(f"q-{number}", answer, worker=worker, **figures).row())
    return performance


def test_each_worker_and_protocol_has_its_own_figures():
    performance = rows(
        ("Worker-1", "a", {"response_time_s": 1.0, "protocol_ms": 100.0}),
        ("Worker-1", "b", {"response_time_s": 3.0, "protocol_ms": 300.0}),
        ("Worker-2", "c", {"response_time_s": 2.0, "protocol_ms": None}),
        ("Worker-2", None, {}),
    )
    report = performance.report(10.0)
    assert set(report) == {"overall", "workers", "protocols", "load_balance_variance"}
    assert list(report["workers"]) == ["Worker-1", "Worker-2", "Worker-10"]
    assert list(report["protocols"]) == ["a2a"]
    first, second, idle = report["workers"].values()
    assert (first["answered"], first["failed"], first["questions_per_s"]) == (2, 0, 0.2)
    assert first["response_time"]["mean"] == 2.0
    assert first["overhead_share"] == pytest.approx(0.1)
    assert (second["answered"], second["failed"], second["overhead_share"]) == (1, 1, None)
    assert (first["success_share"], second["success_share"], idle["success_share"]) == (1.0, 0.5, None)
    assert second["protocol_ms"]["count"] == 0
    assert (idle["answered"], idle["response_time"]["p50"]) == (0, None)
    overall = report["overall"]
    assert overall["response_time"] | {"std": 0} == {
        "count": 3,
        "mean": 2.0,
        "std": 0,
        "min": 1.0,
        "p50": 2.0,
        "p95": 2.9,
        "p99": 2.98,
        "max": 3.0,
    }
    assert (overall["answered"], overall["failed"]) == (3, 1)
    assert set(METRICS) < set(overall)
    assert overall == report["protocols"]["a2a"]


def test_the_balance_is_the_variance_of_answers_per_worker_and_counts_idle_ones():
    ends = [("Worker-1", "a", {})] * 4 + [("Worker-2", "a", {})] * 2
    assert rows(*ends).report(1.0)["load_balance_variance"] == pytest.approx(statistics.pvariance([4, 2, 0]))
    assert Performance().report(1.0)["load_balance_variance"] is None


def test_a_run_that_took_no_time_has_no_rate():
    assert rows(("Worker-1", "a", {})).report(0.0)["overall"]["questions_per_s"] is None


def test_a_failure_that_no_worker_caused_counts_overall_only():
    performance = Performance()
    row = Record().end("q", None).row() | {"worker": None, "protocol": None}
    performance.add(row)
    report = performance.report(1.0)
    assert report["overall"]["failed"] == 1
    assert report["workers"] == report["protocols"] == {}


def test_mock_answers_are_counted():
    assert (
        rows(("Worker-1", "a", {"mock": True}), ("Worker-1", "b", {"mock": False}), ("Worker-1", "c", {})).mock_answers
        == 1
    )


def test_truncated_answers_are_counted():
    assert rows(("Worker-1", "a", {"truncated": True}), ("Worker-1", "b", {})).truncated == 1
