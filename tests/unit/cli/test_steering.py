"""`stq queue` and `stq dlq` on a stopped run: what is printed, and what is refused how."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from unit.control.runs import HOSTILE, manifest, new_run, open_queue, stop

from streaming_queue import cli


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = new_run(tmp_path / "run")

    async def make():
        await stop(directory, await open_queue(directory))

    asyncio.run(make())
    return directory


@pytest.fixture
def stq(run, capsys):
    """`stq(*arguments)` runs the command in the run's parent: its exit code, what it printed, what it said."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        captured = capsys.readouterr()
        assert "\x1b" not in captured.out + captured.err
        return caught.value.code, captured.out, captured.err

    return call


def test_the_figures_are_a_few_lines(stq, run):
    code, out, _ = stq("queue", "stats", "run")
    assert code == 0
    assert out.splitlines() == [
        f"run        {run.run_id}: stopped",
        "questions  1 answered, 4 failed, 0 leased, 1 ready, of 6",
        "failed     2 AgentFailedError, 2 ConnectError",
        "asked      0 again, 0 answers too late, 0 workers lost",
        "source     6 read, 0 skipped",
    ]
    assert json.loads(stq("queue", "stats", "run", "--json")[1])["counts"]["dead"] == 4


def test_the_dead_letters_are_a_table_that_leads_to_its_next_page(stq):
    code, out, _ = stq("dlq", "list", "run", "--limit", "1", "--reason", "ConnectError")
    heading, letter, counted, more = out.splitlines()
    assert (code, counted) == (0, "1 of 2 dead letters")
    assert heading.split() == ["ID", "REASON", "WORKER", "ATTEMPTS", "WHEN", "MESSAGE"]
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"
    assert re.fullmatch(rf"q1  ConnectError  Worker-1  1         {time}  it broke\\x1b\[31m \\u202e\\nand more", letter)
    assert more == "next page: stq dlq list run --reason ConnectError --limit 1 --after 2"
    assert stq(*more.split()[3:])[1].splitlines()[1].startswith("q3 ")
    assert stq("dlq", "list", "run", "--reason", "AuthError")[1] == "0 of 0 dead letters\n"
    assert json.loads(stq("dlq", "list", "run", "--json")[1])["dead_letters"][0]["message"] == HOSTILE


def test_a_dead_letter_is_shown_in_full_and_obeys_nothing(stq):
    code, out, _ = stq("dlq", "show", "run", "q2")
    assert code == 0
    fields = dict(re.findall(r"^(\w+) +(\S.*)$", out.partition("\n\n")[0], re.MULTILINE))
    assert (fields["question"], fields["reference"], fields["reason"]) == ("question 2", "r2", "AgentFailedError")
    assert "message      it broke\\x1b[31m \\u202e\n             and more\n" in out
    assert re.search(r"^1 +buried +Worker-1 +\S+ +AgentFailedError: it broke", out, re.MULTILINE)
    assert json.loads(stq("dlq", "show", "run", "q2", "--json")[1])["history"][0]["error"]["message"] == HOSTILE


def test_replay_and_purge_say_what_became_of_how_many(stq, run):
    assert (
        stq("dlq", "replay", "run", "--id", "q1", "--id", "q2")[1] == "2 put back; `stq resume run` asks them again\n"
    )
    assert stq("dlq", "replay", "run", "--reason", "AuthError")[1] == "nothing to put back: no such dead letters\n"
    assert json.loads(stq("dlq", "replay", "run", "--reason", "AuthError", "--json")[1]) == {
        "replayed": 0,
        "live": False,
    }
    assert stq("dlq", "purge", "run", "--yes", "--id", "q3")[1] == "1 deleted\n"
    assert json.loads(stq("dlq", "purge", "run", "--yes", "--json")[1]) == {"purged": 1, "live": False}
    assert stq("dlq", "purge", "run", "--yes")[1] == "nothing to delete: no such dead letters\n"
    assert len(run.results_jsonl.read_bytes().splitlines()) == 1
    assert manifest(run)["summary"]["open"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("queue pause run", ["no process works on the run", "nothing to pause", "stq resume"]),
        ("queue resume run", ["nothing to resume"]),
        ("queue drain run --wait", ["nothing to drain"]),
        ("queue stats nowhere", ["nowhere", "no such directory"]),
        ("queue stats .", ["run.json"]),
        ("dlq list run --reason Typo", ["'Typo'", "in this run: AgentFailedError, ConnectError.", "SendTimeoutError"]),
        ("dlq list run --limit 0", ["1 to 1000"]),
        ("dlq show run \x1b[31mnobody", [r"\x1b[31mnobody", "stq dlq list"]),
        ("dlq purge run", ["--yes", "stq dlq list"]),
        ("dlq purge run --yes --id q0", ["0 of 1", "stq dlq list run"]),
        ("dlq replay run --id q1 --id nobody", ["1 of 2", "stq dlq list run"]),
    ],
)
def test_an_error_names_its_remedy(stq, arguments, words):
    code, out, error = stq(*arguments.split())
    assert (code, out) == (2, "")
    assert all(word in error for word in words), error
