"""`stq runs`, `top` and `results`: of a run that is stopped, goes on, or is none."""

from __future__ import annotations

import asyncio
import csv
import io
import json

import pytest
from unit.control.runs import new_run, open_queue, stop

from streaming_queue import cli
from streaming_queue.messages import Question, Result
from streaming_queue.queue.sqlite import SQLiteQueue


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = new_run(tmp_path / "runs" / "first")

    async def make():
        await stop(directory, await open_queue(directory))

    asyncio.run(make())
    return directory


@pytest.fixture
def stq(run, capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


def test_runs_are_listed_with_their_figures(stq, run, tmp_path):
    (tmp_path / "runs" / "no run").mkdir()
    code, out, _ = stq("runs", "--json")
    (entry,) = json.loads(out)
    assert code == 0
    assert entry == {
        "run": "runs/first",
        "state": "stopped",
        "protocol": "a2a",
        "answered": 1,
        "failed": 4,
        "questions": 6,
        "created": run.manifest["created"],
    }
    heading, line = stq("runs")[1].splitlines()
    assert heading.split()[:2] == ["RUN", "STATE"]
    assert line.split()[:3] == ["runs/first", "stopped", "a2a"]


def test_one_unreadable_run_does_not_hide_the_others(stq, tmp_path):
    broken = new_run(tmp_path / "runs" / "broken")
    broken.queue_path.write_bytes(b"no database" * 1000)
    states = {entry["run"]: entry["state"] for entry in json.loads(stq("runs", "--json")[1])}
    assert states == {"runs/first": "stopped", "runs/broken": "unreadable"}


def test_a_folder_that_is_not_there_is_named(stq):
    code, _, err = stq("runs", "elsewhere")
    assert code == 2
    assert "elsewhere" in err


def test_top_prints_one_state_into_a_pipe(stq, run):
    code, out, _ = stq("top", "runs/first")
    assert code == 0
    assert out.splitlines()[0].split() == ["run", f"{run.run_id}:", "stopped"]
    state = json.loads(stq("top", "runs/first", "--once", "--json")[1])
    assert (state["state"], state["counts"]["dead"], state["workers"]) == ("stopped", 4, [])


def test_top_as_json_ends_with_the_run(stq):
    lines = stq("top", "runs/first", "--json")[1].splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["stopped"]


def test_results_are_the_rows_of_the_record(stq, run):
    code, out, _ = stq("results", "runs/first")
    assert code == 0
    assert out == run.results_jsonl.read_text()


def test_results_come_from_the_record_even_if_the_file_is_gone(stq, run):
    before = run.results_jsonl.read_text()
    run.results_jsonl.unlink()
    assert stq("results", "runs/first")[1] == before


def test_results_of_a_run_that_goes_on(stq, run):
    async def with_owner():
        queue = await SQLiteQueue.open(run.queue_path)
        try:
            return await asyncio.to_thread(stq, "results", "runs/first")
        finally:
            await queue.close()

    code, out, _ = asyncio.run(with_owner())
    assert code == 0
    assert len(out.splitlines()) == 5


def test_results_before_the_first_question(stq, tmp_path):
    new_run(tmp_path / "runs" / "new")
    assert stq("results", "runs/new") == (0, "", "")


def rows(output):
    return [json.loads(line) for line in output.splitlines()]


def change(run, *calls):
    """Do with the run's queue what `calls` say."""

    async def make():
        queue = await SQLiteQueue.open(run.queue_path)
        for call in calls:
            await call(queue)
        await queue.close()

    asyncio.run(make())


def test_results_after_a_cursor_are_the_later_rows(stq, run):
    first, second, *later = rows(stq("results", "runs/first")[1])
    assert rows(stq("results", "runs/first", "--after", second["cursor"])[1]) == later
    assert rows(stq("results", "runs/first", "--after", "")[1]) == [first, second, *later]
    assert stq("results", "runs/first", "--after", later[-1]["cursor"]) == (0, "", "")
    for wrong in ("nonsense", "00000000-1", second["cursor"].replace("-2", "-6")):
        assert stq("results", "runs/first", "--after", wrong)[0] == 2


def test_a_dead_letter_that_is_no_more_is_told_to_a_reader_who_may_know_it(stq, run):
    before = rows(stq("results", "runs/first")[1])
    change(run, lambda queue: queue.replay(ids=["q1"]), lambda queue: queue.purge(ids=["q2"]))
    replayed, purged = rows(stq("results", "runs/first", "--after", before[-1]["cursor"])[1])
    assert (replayed["question_id"], replayed["status"], replayed["supersedes"]) == ("q1", "open", before[1]["cursor"])
    assert (purged["question_id"], purged["status"], purged["supersedes"]) == ("q2", "purged", before[2]["cursor"])
    assert list(replayed) == list(purged) == list(before[0])
    left = [row for row in before if row["question_id"] not in {"q1", "q2"}]
    assert rows(stq("results", "runs/first")[1]) == left, "who begins now has nothing to take back"
    assert rows(stq("results", "runs/first", "--after", before[2]["cursor"])[1]) == [*left[1:], replayed, purged]


def test_following_an_ended_run_ends(stq, run):
    code, out, err = stq("results", "runs/first", "--follow")
    assert (code, rows(out)) == (75, rows(run.results_jsonl.read_text()))
    assert "stq resume runs/first" in err
    run.update(state="done")
    code, out, err = stq("results", "runs/first", "--follow", "--after", rows(out)[-1]["cursor"])
    assert (code, out, err) == (0, "", "")


def test_rows_after_a_cursor_need_json_and_a_run_without_a_process(stq, run):
    assert stq("resume", "runs/first", "--after", "")[0] == 2

    async def with_owner():
        queue = await SQLiteQueue.open(run.queue_path)
        try:
            return await asyncio.to_thread(stq, "resume", "runs/first", "--json", "--after", "")
        finally:
            await queue.close()

    code, _, err = asyncio.run(with_owner())
    assert code == 2
    assert "--follow" in err


@pytest.mark.parametrize("hostile", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_cell_is_a_formula(stq, tmp_path, hostile):
    directory = new_run(tmp_path / "runs" / "second")

    async def make():
        queue = await SQLiteQueue.open(directory.queue_path)
        await queue.put([Question(hostile, "q", hostile)])
        (lease,) = await queue.lease(1)
        await queue.commit(lease, Result(hostile, "Worker-1", "a2a", 0.1, usage={"input": 1}))
        await queue.close()

    asyncio.run(make())
    _, out, _ = stq("results", "runs/second", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out, newline=""))
    assert (row["question"], row["reference"], row["answer"]) == (f"'{hostile}",) * 3
    assert (row["status"], row["usage"]) == ("success", '{"input":1}')


def test_a_run_that_goes_on_takes_no_new_settings(stq, run):
    async def with_owner(*arguments):
        queue = await SQLiteQueue.open(run.queue_path)
        try:
            return await asyncio.to_thread(stq, "resume", "runs/first", *arguments)
        finally:
            await queue.close()

    code, _, err = asyncio.run(with_owner("-w", "2"))
    assert code == 2
    assert "stq stop" in err


def test_a_damaged_run_is_exported_by_the_doctor(stq, tmp_path):
    code, out, _ = stq("doctor", "runs/first", "--repair", "-o", "saved", "--json")
    assert (code, json.loads(out)["answered"]) == (0, 1)
    assert (tmp_path / "saved" / "results.jsonl").is_file()
    assert stq("doctor", "--repair")[0] == 2
    assert stq("doctor", "runs/first", "-o", "saved")[0] == 2
