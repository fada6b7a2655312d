from __future__ import annotations

import io
from textwrap import dedent

from streaming_queue.telemetry.console import render_summary


def described(mean: float, count: int = 97) -> dict:
    return {
        "count": count,
        "mean": mean,
        "std": mean / 4,
        "min": mean / 2,
        "p50": mean,
        "p95": mean * 2,
        "p99": mean * 3,
        "max": mean * 4,
    }


NOTHING = {"count": 0, "mean": None, "std": None, "min": None, "p50": None, "p95": None, "p99": None, "max": None}
WORKER = {
    "answered": 97,
    "failed": 1,
    "success_share": 97 / 98,
    "questions_per_s": 12.34,
    "overhead_share": 0.01,
    "response_time_p50": 0.25,
    "response_time_p95": 0.5,
    "queue_ms_p50": 3.2,
    "protocol_ms_p50": 1.61,
    "llm_ms_p50": 248.0,
}
SUMMARY = {
    "run_id": "20260304-050607-1f2e3d4c",
    "protocol": "a2a",
    "provider": {"name": "mock", "model": None, "mock": True, "reason": "OPENAI_API_KEY is not set"},
    "state": "done",
    "questions": 98,
    "answered": 97,
    "failed": 1,
    "open": 0,
    "seconds": 12.34,
    "questions_per_s": 7.86,
    "overhead_share": 0.0064,
    "mock": True,
    "mock_answers": 97,
    "load_balance_variance": 0.0,
    "re_executions": 2,
    "late_duplicates_rejected": 1,
    "losses": 0,
    "timings": {
        "response_time": described(0.25),
        "queue_ms": described(20.0),
        "protocol_ms": described(1.6),
        "llm_ms": described(248.0),
        "ttft_ms": NOTHING,
    },
    "workers": {"Worker-1": WORKER, "Worker-2": WORKER | {"answered": 0, "response_time_p50": None}},
    "files": ["runs/r/results.jsonl", "runs/r/results.json"],
}


def shown(summary) -> str:
    stream = io.StringIO()
    render_summary(summary, stream)
    return stream.getvalue()


def test_the_whole_table():
    assert shown(SUMMARY) == dedent("""\
    ╭─ done · a2a · mock · 20260304-050607-1f2e3d4c ───────────────────────────────────────────────────────╮
    │                                                                                                      │
    │   MOCK   answers were made up by the mock provider, not by a model (OPENAI_API_KEY is not set)       │
    │                                                                                                      │
    │  97 answered   1 failed   of 98 questions in 12.3 s   7.86/s                                         │
    │                                                                                                      │
    │  milliseconds      mean       p50       p95       p99       max                                      │
    │  response           250       250       500       750     1,000                                      │
    │  queue             20.0      20.0      40.0      60.0      80.0                                      │
    │  protocol          1.60      1.60      3.20      4.80      6.40                                      │
    │  LLM                248       248       496       744       992                                      │
    │                                                                                                      │
    │  ████████████████████████████████████████████  queue 7.4 %   protocol 0.6 %   LLM 92 %               │
    │                                                                                                      │
    │  worker (ms)   answered  failed  per s  response p50  p95  queue  protocol  LLM                      │
    │  Worker-1            97       1   12.3           250  500   3.20      1.61  248                      │
    │  Worker-2             0       1   12.3             -  500   3.20      1.61  248                      │
    │                                                                                                      │
    │  protocol overhead: 0.6 % of the response time, asked again: 2, late duplicates rejected: 1          │
    │                                                                                                      │
    │  written  runs/r/results.jsonl                                                                       │
    │  written  runs/r/results.json                                                                        │
    │                                                                                                      │
    ╰──────────────────────────────────────────────────────────────────────────────────────────────────────╯
    """)


def test_a_real_model_is_named_and_not_labelled():
    provider = {"name": "openai", "model": "gpt-4.1-mini", "mock": False, "reason": None}
    table = shown(SUMMARY | {"provider": provider, "mock": False, "mock_answers": 0})
    assert "done · a2a · gpt-4.1-mini" in table
    assert "MOCK" not in table


def test_answers_that_are_partly_made_up_are_counted():
    assert " MOCK   12 of 97 answers were made up by the mock provider" in shown(SUMMARY | {"mock_answers": 12})


def test_a_stopped_run_says_what_was_not_asked():
    assert "97 answered   1 failed   20 not asked   of 118 questions" in shown(
        SUMMARY | {"state": "stopped", "open": 20, "questions": 118}
    )


def test_what_a_summary_does_not_say_is_left_out():
    table = shown({})
    assert "0 answered   0 failed   of 0 questions in -   -" in table
    assert "milliseconds" not in table


def test_hostile_names_are_shown_and_not_obeyed():
    table = shown(SUMMARY | {"workers": {"\x1b[2J\n[red]": WORKER}, "files": ["\x1b[31mf"], "protocol": "\x07"})
    assert r"\x1b[2J\n[red]" in table
    assert r"\x1b[31mf" in table
    assert "\x1b" not in table
    assert "\x07" not in table


def test_the_protocols_of_a_mixed_run_are_compared():
    other = WORKER | {"failed": 0, "success_share": 1.0, "response_time_p50": 0.1, "protocol_ms_p50": 0.5}
    table = shown(SUMMARY | {"protocols": {"http": WORKER, "ws": other}})
    assert "done · http, ws · mock" in table
    assert "protocol (ms)  questions  success  response p50  overhead p50" in table
    assert "http                  98     99 %           250          1.61" in table
    assert "ws                    97    100 %           100          0.50" in table
    assert shown(SUMMARY | {"protocols": {"a2a": WORKER}}) == shown(SUMMARY)
    assert "done · 7 protocols · mock" in shown(SUMMARY | {"protocols": {f"p{number}": WORKER for number in range(7)}})


def test_what_a_run_chose_stands_beside_its_protocols():
    chosen = {"taken": {"freely": 0, "explored": 7, "no other": 1}, "held_back": {"slow": 1200, "failing": 34}}
    table = shown(SUMMARY | {"protocols": {"http": WORKER, "ws": WORKER}, "auto": {"protocols": {"http": chosen}}})
    assert "done · auto: http, ws · mock" in table
    assert "overhead p50  explored  held back" in table
    assert "1.61         7      1,234" in table
    assert "1.61         0          0" in table


def test_many_workers_do_not_flood_the_screen():
    table = shown(SUMMARY | {"workers": {f"Worker-{number}": WORKER for number in range(200)}})
    assert "and 176 more in the report" in table
    assert len(table.splitlines()) < 60


def test_an_ascii_stream_gets_ascii():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    render_summary(SUMMARY, stream)
    assert raw.getvalue().isascii()
    assert b"\\u" not in raw.getvalue()
    assert b"MOCK" in raw.getvalue()


def test_truncated_answers_are_shown():
    assert "3 of the answers were cut by a limit of tokens" in shown(SUMMARY | {"truncated": 3})
    assert "cut by" not in shown(SUMMARY)
