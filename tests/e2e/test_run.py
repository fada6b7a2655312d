"""The main job, as a user runs it: real sockets, real files, the documented exit codes."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.protocols import ALL, some_of

ROOT = Path(__file__).parents[2]
FAST = ("-s", "mock.latency_ms=1")
INPROC = ("-p", "inproc", *FAST)
"""Where the protocol is not the matter: the one that starts soonest."""


@pytest.mark.parametrize("protocol", [*ALL, "inproc"])
def test_the_bundled_questions_are_answered_and_the_files_are_there(stq, protocol: str) -> None:
    done = stq("run", "-p", protocol, "-o", "run", *FAST)
    assert done.returncode == 0, done.stderr
    rows = stq.rows()
    assert len(rows) >= 200
    assert len({row["question_id"] for row in rows}) == len(rows)
    assert all(row["status"] == "success" and row["mock"] is True and row["reference"] for row in rows)
    assert {row["worker"] for row in rows} == {f"Worker-{number}" for number in range(1, 5)}
    assert {row["protocol"] for row in rows} == {protocol}
    assert all(row["protocol_ms"] >= 0 and row["llm_ms"] > 0 and row["queue_ms"] >= 0 for row in rows)
    manifest = stq.manifest()
    assert manifest["state"] == "done"
    assert manifest["provider"]["mock"] is True
    assert manifest["summary"]["answered"] == len(rows)
    report = json.loads((stq.directory / "run" / "results.json").read_text())
    assert list(report) == ["metadata", "performance", "results"]
    assert report["results"] == rows


def test_the_mock_is_labelled_wherever_a_person_looks(stq) -> None:
    done = stq("run", "-n", "5", "-o", "run", *INPROC)
    assert "mock" in done.stderr.lower()
    assert "mock" in done.stdout.lower()
    assert all(row["answer"].startswith("[mock]") for row in stq.rows())


def test_the_default_directory_is_named_by_time_and_protocol(stq) -> None:
    assert stq("run", "-n", "1", *FAST).returncode == 0
    (run,) = (stq.directory / "runs").iterdir()
    assert run.name.endswith("-a2a")


def test_json_prints_a_line_per_result_and_the_summary_and_nothing_else_on_stdout(stq) -> None:
    done = stq("run", "-q", stq.questions(20), "-o", "run", "--json", *FAST)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["type"] for line in lines] == ["result"] * 20 + ["summary"]
    assert {line["question_id"] for line in lines[:-1]} == {f"q{number}" for number in range(20)}
    assert lines[-1]["answered"] == 20


def test_stdout_has_data_only_and_talk_is_on_stderr(stq) -> None:
    done = stq("run", "-n", "3", "-o", "run", *INPROC)
    assert "Coordinator-1" in done.stderr
    assert "Coordinator-1" not in done.stdout


def test_a_config_file_is_used_and_flags_come_before_it(stq) -> None:
    (stq.directory / "my.yaml").write_text(
        f"qa:\n  coordinator: {{data_file: {stq.questions(30)}, first_50: true, result_file: out/all.json}}\n"
        "  worker: {count: 3, concurrency: 2}\noutput: {dir: run}\nmock: {latency_ms: 1}\n"
    )
    done = stq("run", "my.yaml", "-w", "2", "-n", "10")
    assert done.returncode == 0, done.stderr
    assert {row["worker"] for row in stq.rows()} <= {"Worker-1", "Worker-2"}
    assert len(stq.rows()) == 10
    assert len(json.loads((stq.directory / "out" / "all.json").read_text())["results"]) == 10


def test_questions_come_from_a_pipe_from_csv_and_from_gzip(stq) -> None:
    done = stq("run", "-q", "-", "-o", "pipe", *INPROC, stdin='{"q": "one?"}\n{"q": "two?"}')
    assert done.returncode == 0, done.stderr
    assert {row["question"] for row in stq.rows("pipe")} == {"one?", "two?"}
    (stq.directory / "a.csv").write_text('id,Question\nx,"first, with comma"\ny,second\n')
    assert stq("run", "-q", "a.csv", "-o", "csv", *INPROC).returncode == 0
    assert {(row["question_id"], row["question"]) for row in stq.rows("csv")} == {
        ("x", "first, with comma"),
        ("y", "second"),
    }
    (stq.directory / "b.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "zipped?"}\n'))
    assert stq("run", "-q", "b.jsonl.gz", "-o", "gz", *INPROC).returncode == 0
    assert [row["question"] for row in stq.rows("gz")] == ["zipped?"]


def test_two_mock_runs_with_one_seed_give_the_same_answers(stq) -> None:
    for run in ("a", "b"):
        assert stq("run", "-n", "20", "-o", run, *FAST).returncode == 0
    answers = [{row["question_id"]: row["answer"] for row in stq.rows(run)} for run in ("a", "b")]
    assert answers[0] == answers[1]


HASTE = ("-s", "scheduler.retry_base_s=0.001", "-s", "scheduler.retry_per_s=1000")


def test_failures_end_in_3_and_are_rows_with_their_reason(stq) -> None:
    done = stq("run", "-o", "run", "-s", "mock.failure_rate=0.2", *HASTE, *INPROC)
    assert done.returncode == 3, done.stderr
    rows = stq.rows()
    failed = [row for row in rows if row["status"] == "failed"]
    assert 10 < len(failed) < len(rows) / 2
    assert all(row["error"]["type"] == "BadResponseError" and row["error"]["message"] for row in failed)
    assert all(row["answer"] is None and row["attempts"] == 5 for row in failed)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("nowhere.jsonl", None, ["nowhere.jsonl"]),
        ("empty.jsonl", b"", ["empty.jsonl"]),
        ("blank.jsonl", b"\n \n\n", ["blank.jsonl"]),
        ("fields.jsonl", b'{"frage": "was?"}\n', ["fields.jsonl", "question", "frage"]),
        ("fields.csv", b"frage,antwort\nwas?,das\n", ["fields.csv", "question", "frage"]),
    ],
)
def test_a_source_that_cannot_be_used_is_told_before_anything_starts(stq, name, content, expected) -> None:
    if content is not None:
        (stq.directory / name).write_bytes(content)
    done = stq("run", "-q", name, "-o", "run")
    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in expected)
    assert "Traceback" not in done.stderr
    assert not (stq.directory / "run").exists()


BAD_LINES = (
    b'{"id": "a", "question": "good?"}\n'
    b"no json\n"
    b'"a string"\n'
    b'{"id": "b", "question": 7}\n'
    b'{"id": "c", "question": "\xff"}\n'
    b'{"id": "d", "question": "' + b"x" * 1_100_000 + b'"}\n'
    b'{"id": "e", "question": "also good?"}'
)


def test_bad_lines_are_skipped_with_their_place_and_the_rest_runs(stq) -> None:
    (stq.directory / "mixed.jsonl").write_bytes(BAD_LINES)
    done = stq("run", "-q", "mixed.jsonl", "-o", "run", *INPROC)
    assert done.returncode == 0, done.stderr
    assert {row["question_id"] for row in stq.rows()} == {"a", "e"}
    for line in (2, 3, 4, 5, 6):
        assert f"[WARNING] mixed.jsonl:{line}: " in done.stderr
    assert "5" in done.stderr.split("skipped", 1)[1]
    assert stq.manifest()["summary"]["skipped"] == 5


def test_strict_refuses_the_whole_input_for_one_bad_line(stq) -> None:
    (stq.directory / "mixed.jsonl").write_bytes(BAD_LINES)
    done = stq("run", "-q", "mixed.jsonl", "-o", "run", "--strict", *INPROC)
    assert done.returncode == 2
    assert "mixed.jsonl:2" in done.stderr
    assert not (stq.directory / "run").exists()


def test_equal_ids_and_texts_are_counted_and_equal_ids_alone_are_renamed(stq) -> None:
    lines = [
        {"id": "a", "q": "one?"},
        {"id": "a", "q": "one?"},
        {"id": "a", "q": "two?"},
        {"q": "one?"},
        {"q": "one?"},
    ]
    (stq.directory / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = stq("run", "-q", "d.jsonl", "-o", "run", *INPROC)
    assert done.returncode == 0, done.stderr
    ids = sorted(row["question_id"] for row in stq.rows())
    assert len(ids) == 4
    assert ids.count("a") == ids.count("a#2") == 1
    assert "a#2" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-p", "htpt"), ["htpt", "did you mean 'http'"]),
        (("-p", "nowhere.module:Class"), ["nowhere"]),
        (("-s", "qa.worker.cuont=3"), ["qa.worker.cuont", "qa.worker.count"]),
        (("-s", "qa.worker.count=many"), ["qa.worker.count", "many"]),
        (("missing.yaml",), ["missing.yaml"]),
        (("-w", "0"), ["qa.worker.count", "--workers", "0"]),
        (("--no-such-flag",), ["no-such-flag"]),
    ],
)
def test_wrong_usage_is_2_and_names_what_is_wrong(stq, arguments, expected) -> None:
    done = stq("run", *arguments, "-o", "run")
    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in expected), done.stderr
    assert "Traceback" not in done.stderr


def test_a_finished_directory_is_refused_with_the_word_resume(stq) -> None:
    assert stq("run", "-n", "2", "-o", "run", *INPROC).returncode == 0
    done = stq("run", "-n", "2", "-o", "run", *INPROC)
    assert done.returncode == 2
    assert "resume" in done.stderr
    assert len(stq.rows()) == 2


def test_a_directory_without_a_queue_is_started_anew(stq) -> None:
    assert stq("run", "-n", "2", "-o", "run", *INPROC).returncode == 0
    (stq.directory / "run" / "queue.db").unlink()
    assert stq("run", "-n", "3", "-o", "run", *INPROC).returncode == 0
    assert len(stq.rows()) == 3


def test_a_port_in_use_is_69_and_names_the_address(stq, worker) -> None:
    port = worker().address.rpartition(":")[2]
    done = stq("run", "-n", "2", "-o", "run", "-s", f"qa.coordinator.port={port}")
    assert done.returncode == 69, done.stderr
    assert f"127.0.0.1:{port}" in done.stderr


def test_an_address_that_other_machines_reach_is_refused_unless_it_is_allowed(stq) -> None:
    public = ("run", "-n", "2", "-s", "qa.worker.host=0.0.0.0", *FAST)
    done = stq(*public, "-o", "refused")
    assert done.returncode == 2, done.stderr
    assert done.stderr.index("STQ_NETWORK__TOKEN") < done.stderr.index("network.allow_public")
    assert stq(*public, "-o", "run", "-s", "network.allow_public=true").returncode == 0
    assert stq(*public, "-o", "known", "-s", "network.token=s3cret").returncode == 0


def test_an_endpoint_that_answers_nothing_is_69_and_names_the_address(stq) -> None:
    done = stq("run", "-n", "2", "-o", "run", "-s", "qa.worker.endpoints=[http://127.0.0.1:9]")
    assert done.returncode == 69, done.stderr
    assert "http://127.0.0.1:9" in done.stderr
    assert not (stq.directory / "run").exists()


def test_wrong_credentials_are_77_and_keep_the_questions(stq, openai_server) -> None:
    environment = {"OPENAI_BASE_URL": openai_server, "OPENAI_API_KEY": "wrong-key"}
    done = stq("run", "-n", "3", "-o", "run", "--model", "m", env=environment)
    assert done.returncode == 77, done.stderr
    assert "wrong-key" not in done.stderr
    assert stq.rows() == []
    assert stq.manifest()["state"] == "stopped"


def test_a_full_disk_behind_stdout_is_no_success(stq) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "streaming_queue.cli", "run", "-n", "3", "-o", "run", "--json", *INPROC],
            cwd=stq.directory, env=stq.environment, stdout=full, stderr=subprocess.PIPE, timeout=100, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert b"standard output: No space left" in done.stderr
    assert len(stq.rows()) == 3


def test_a_taken_directory_is_refused_before_anything_starts(stq) -> None:
    assert stq("run", "-n", "2", "-o", "run", *INPROC).returncode == 0
    assert "Coordinator-1" not in stq("run", "-n", "2", "-o", "run").stderr


@pytest.mark.parametrize("protocol", some_of([*ALL[1:], "inproc"], "http", "inproc"))
def test_a_runner_is_a_module(stq, protocol: str) -> None:
    run_module(stq, f"streaming_queue.runner.run_{protocol}")


def test_the_guides_runner_is_a_module_under_its_address_too(stq) -> None:
    run_module(stq, "streaming_queue.runner.run_a2a")
    run_module(stq, "script.streaming_queue.runner.run_a2a", PYTHONPATH=str(ROOT))


def run_module(stq, name: str, **variables: str) -> None:
    (stq.directory / "config.yaml").write_text("qa: {coordinator: {limit: 4}}\nmock: {latency_ms: 1}\n")
    done = subprocess.run(
        [sys.executable, "-m", name],
        cwd=stq.directory, env=stq.environment | variables, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 of 4 questions answered" in done.stderr


def test_a_source_that_was_changed_is_refused_until_the_user_decides(stq) -> None:
    source = Path(stq.directory / stq.questions(20))
    assert stq("run", "-q", source, "-o", "run", "-n", "10", *INPROC).returncode == 0
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([*lines[:4], '{"id": "x", "q": "inserted?"}\n', *lines[4:]]))
    done = stq("resume", "run", "-n", "30")
    assert done.returncode == 2
    assert "line 5 " in done.stderr
    assert "--source-changed append" in done.stderr
    done = stq("resume", "run", "-n", "40", "--source-changed", "append")
    assert done.returncode == 0, done.stderr
    assert len(stq.rows()) == 21
    source.write_text('{"id": "x", "q": "the only one?"}\n')
    assert stq("resume", "run", "--source-changed", "restart").returncode == 0
    assert [row["question"] for row in stq.rows()] == ["the only one?"]
    assert len(next(stq.directory.glob("run/before-*/results.jsonl")).read_text().splitlines()) == 21
