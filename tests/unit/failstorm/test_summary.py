from __future__ import annotations

import json
import math
from typing import Any

import pytest
from unit.failstorm.storms import timeline

from streaming_queue.errors import ConfigError
from streaming_queue.failstorm.plan import Fault, Plan
from streaming_queue.failstorm.record import Ledger, examine
from streaming_queue.failstorm.summary import Summary, misses, rows, sum_up
from streaming_queue.failstorm.timeline import Cycle

GOOD = Ledger(questions=1000, lost=0, recorded_twice=0, re_executions=7, late_duplicates_rejected=2)


def storm(seen_after: float = 0.2, fault: Fault = Fault.kill, ledger: Ledger = GOOD, **more: Any) -> Summary:
    cycle = Cycle(5.0, {"W1": 9.0}, 15.0)
    downs = [(5.0 + seen_after, "W1"), *more.pop("downs", ())]
    return sum_up("http", fault, timeline(cycles=[cycle], downs=downs, ups=[(9.5, "W1")], **more), ledger)


def test_a_good_storm_misses_nothing() -> None:
    assert misses(storm(), Fault.kill) == []


@pytest.mark.parametrize("name", ["lost", "recorded_twice"])
def test_one_question_is_too_many(name: str) -> None:
    counts = {"questions": 9, "lost": 0, "recorded_twice": 0, "re_executions": 0, "late_duplicates_rejected": 0}
    assert misses(storm(ledger=Ledger(**counts | {name: 1})), Fault.kill) == [f"{name} 1, not 0"]


def test_a_healthy_worker_is_not_to_be_ejected() -> None:
    assert misses(storm(downs=[(6.0, "W4")]), Fault.kill) == ["wrongly_ejected 1, not 0"]


def test_silence_takes_longer_to_see_than_a_reset() -> None:
    assert misses(storm(2.5), Fault.kill) == ["detection_s up to 2.5, not at most 1"]
    assert misses(storm(2.5), Fault.blackhole) == []
    assert misses(storm(2.5), Fault.stop) == []
    assert misses(storm(3.5), Fault.stop) == ["detection_s up to 3.5, not at most 3"]


def test_throughput_has_two_seconds_to_come_back() -> None:
    missed = misses(storm(pace=[(5.0, 10.0), (8.0, 100.0)]), Fault.kill)
    assert missed == ["recovery_s up to 2.8, not at most 2"]
    assert misses(storm(pace=[(5.0, 10.0)]), Fault.kill) == ["recovery_s up to inf, not at most 2"]


def test_the_entry_is_plain_json() -> None:
    entry = json.loads(json.dumps(storm(pace=[(5.0, 10.0)]).entry(), allow_nan=False))
    assert entry["detection_s"] == {"median": 0.2, "low": 0.2, "high": 0.2}
    assert entry["recovery_s"] == {"median": None, "low": None, "high": None}
    assert (entry["lost"], entry["re_executions"], entry["late_duplicates_rejected"]) == (0, 7, 2)
    assert storm(fault=Fault.slow).entry()["detection_s"] is None


def test_the_table_has_a_column_for_each_protocol() -> None:
    table = {row[0]: row[1:] for row in rows([storm(), storm(pace=[(5.0, 10.0)])])}
    assert table[""] == ("http", "http")
    assert table["detection_s"] == ("0.20 (0.20 to 0.20)",) * 2
    assert table["recovery_s"][1] == "never (never to never)"
    assert table["re_executions"] == ("7", "7")
    assert math.isfinite(storm().figures["p99_ms"].high) is False  # no question was asked in this one
    assert table["p99_ms"][0] == "never (never to never)"


def test_what_was_asked_is_compared_with_what_is_on_disk(tmp_path) -> None:
    results = tmp_path / "results.jsonl"
    rows_of = [("s1", "success"), ("s2", "failed"), ("s3", "success"), ("s3", "success")]
    results.write_text("".join(json.dumps({"question_id": name, "status": status}) + "\n" for name, status in rows_of))
    stats = {"re_executions": 4, "late_duplicates_rejected": 1}
    ledger = examine(["s1", "s2", "s3", "s4"], {"s1": 2, "s3": 1, "s5": 1}, results, stats)
    assert ledger.lost == 3  # s2 failed, s4 is nowhere, s5 has an event only
    assert ledger.recorded_twice == 2  # s3 by its rows, s1 by its events
    assert (ledger.questions, ledger.re_executions, ledger.late_duplicates_rejected) == (4, 4, 1)


def test_a_fault_must_not_hit_all_workers() -> None:
    with pytest.raises(ConfigError, match="leaves no worker"):
        Plan(workers=3, kill=3)
