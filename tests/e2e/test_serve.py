"""Agents as processes of their own: ready, asked, killed, drained; rounds that outlive whoever began them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from e2e.protocols import EVERY, TWO
from e2e.waiting import assert_each_once, lines, until, wait_for_lines

# --- a worker ---


@pytest.mark.parametrize("protocol", EVERY)
def test_a_worker_is_asked(stq, worker, protocol: str) -> None:
    address = worker(protocol=protocol).address
    whole = stq("ask", address, "What is 1 + 1?", "-p", protocol)
    streamed = stq("ask", address, "What is 1 + 1?", "-p", protocol, "--stream")
    read = stq("ask", address, "-", "-p", protocol, stdin="What is 1 + 1?\n")
    for done in (whole, streamed, read):
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("[mock]")
    assert whole.stdout == streamed.stdout == read.stdout
    told = json.loads(stq("ask", address, "What is 1 + 1?", "-p", protocol, "--json").stdout)
    assert told["text"] == whole.stdout.rstrip("\n")
    assert told["metadata"]["mock"] is True
    status = stq("status", address, "-p", protocol)
    assert status.stdout.startswith("ready, LLM: mock")


@pytest.mark.parametrize("protocol", TWO)
def test_a_worker_told_to_stop_finishes_its_answer_first(stq, worker, agents, protocol: str) -> None:
    served = worker("--executor", "agents_of_others:Slow", protocol=protocol)
    asking = stq.start("ask", served.address, "q", "-p", protocol)
    until((stq.directory / "runs.txt").exists)
    served.process.send_signal(signal.SIGTERM)
    until(lambda: stq("ask", served.address, "another", "-p", protocol).returncode == 69)
    stq.open_gate()
    answer, talk = asking.communicate(timeout=60)
    assert (asking.returncode, answer) == (0, "at last\n"), talk
    _, talk = served.process.communicate(timeout=60)
    assert served.process.returncode == 0, talk
    assert (stq.directory / "runs.txt").read_text() == "q\n"


@pytest.mark.parametrize("protocol", TWO)
def test_an_answer_outlives_whoever_asked_and_is_not_worked_out_again(stq, worker, agents, protocol: str) -> None:
    served = worker("--executor", "agents_of_others:Slow", protocol=protocol)
    arguments = ("ask", served.address, "q", "-p", protocol, "--key", "my-key")
    asking = stq.start(*arguments)
    until((stq.directory / "runs.txt").exists)
    asking.kill()
    asking.communicate()
    again = stq.start(*arguments)
    stq.open_gate()
    answer, talk = again.communicate(timeout=60)
    assert (again.returncode, answer) == (0, "at last\n"), talk
    later = stq(*arguments)
    assert (later.returncode, later.stdout) == (0, "at last\n")
    assert (stq.directory / "runs.txt").read_text() == "q\n"


@pytest.mark.parametrize(
    "case", [("Shouter", "a2a", "HELLO"), ("Shouter", "http", "HELLO"), ("Native", "a2a", "native hello")]
)
def test_anybodys_executor_is_served(stq, worker, agents, case: tuple[str, str, str]) -> None:
    executor, protocol, answer = case
    served = worker("--executor", f"agents_of_others:{executor}", protocol=protocol)
    done = stq("ask", served.address, "hello", "-p", protocol)
    assert (done.returncode, done.stdout) == (0, f"{answer}\n"), done.stderr
    served.process.terminate()
    assert served.process.wait(60) == 0


@pytest.mark.parametrize(
    ("executor", "words"),
    [
        ("nowhere:Class", "there is no module 'nowhere'"),
        ("agents_of_others:Nobody", "has no class 'Nobody'"),
        ("agents_of_others:NoAgent", "it lacks `async def execute"),
        ("agents_of_others", "write package.module:Class"),
    ],
)
def test_what_is_no_executor_is_refused(stq, agents, executor: str, words: str) -> None:
    done = stq("serve", "worker", "--executor", executor)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_native_executor_needs_its_own_protocol(stq, agents) -> None:
    done = stq("serve", "worker", "-p", "http", "--executor", "agents_of_others:Native")
    assert done.returncode == 2, done.stderr
    assert "a2a" in done.stderr


def test_a_worker_whose_port_is_taken_or_whose_model_cannot_be_used_does_not_start(stq, worker) -> None:
    taken = stq("serve", "worker", "--port", worker().port)
    assert taken.returncode == 69
    assert "the port is in use" in taken.stderr
    public = stq("serve", "worker", "--host", "0.0.0.0")
    assert public.returncode == 2
    assert "without authentication" in public.stderr
    no_key = stq("serve", "worker", "--llm", "openai")
    assert no_key.returncode == 2
    assert "Traceback" not in taken.stderr + public.stderr + no_key.stderr


def test_nobody_there_is_69(stq) -> None:
    for verb in ("status", "dispatch", "attach"):
        done = stq(verb, "http://127.0.0.1:9")
        assert done.returncode == 69, done.stderr
        assert "http://127.0.0.1:9" in done.stderr
    assert stq("ask", "http://127.0.0.1:9", "q").returncode == 69
    assert stq("ask", "tcp://127.0.0.1:9", "q").returncode == 2


def test_a_log_of_json_is_json_line_by_line(stq) -> None:
    process = stq.start("serve", "worker", "--log", "json")
    assert process.stdout
    ready = json.loads(process.stdout.readline())
    assert (ready["type"], ready["agent_id"], ready["protocol"]) == ("ready", "Worker-1", "a2a")
    assert stq("ask", ready["address"], "q").returncode == 0
    process.terminate()
    out, log = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    records = [json.loads(line) for line in log.splitlines()]
    assert {"time", "level", "message"} <= records[0].keys()
    assert [record["level"] for record in records] == ["system", "warning", "system"]


@pytest.mark.parametrize("protocol", TWO)
def test_a_token_is_demanded_and_shown(stq, worker, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    secret = "open-sesame-sesame"
    served = worker("-s", f"network.token={secret}", protocol=protocol)
    refused = stq("ask", served.address, "q", "-p", protocol)
    assert refused.returncode == 77, refused.stderr
    wrong = stq("ask", served.address, "q", "-p", protocol, "-s", "network.token=wrong")
    assert wrong.returncode == 77
    right = stq("ask", served.address, "q", "-p", protocol, env={"STQ_NETWORK__TOKEN": secret})
    assert right.returncode == 0, right.stderr
    run = stq(
        "run", "-q", stq.questions(20), "-p", protocol, "-o", "run", "-s", f"qa.worker.endpoints=[{served.address}]",
        env={"STQ_NETWORK__TOKEN": secret},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert_each_once(stq.rows(), 20)
    written = "".join(path.read_text() for path in (stq.directory / "run").glob("*.json*"))
    assert secret not in written + run.stdout + run.stderr + refused.stderr + wrong.stderr


# --- a pool of them ---


@pytest.mark.parametrize("protocol", EVERY)
def test_a_thousand_questions_over_four_processes_one_killed_half_way(stq, held_worker, protocol: str) -> None:
    workers = [held_worker(free=125, protocol=protocol) for _ in range(4)]
    endpoints = ",".join(each.address for each in workers)
    process = stq.start(
        "run", "-q", str(stq.questions(1000)), "-p", protocol, "-o", "run", "-s", f"qa.worker.endpoints=[{endpoints}]"
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 500)
    workers[1].process.kill()
    stq.open_gate()
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    rows = stq.rows()
    assert_each_once(rows, 1000)
    assert all(row["status"] == "success" and row["attempts"] == 1 for row in rows)
    assert stq.manifest()["summary"]["answered"] == 1000


@pytest.mark.parametrize("protocol", TWO)
def test_worker_processes_of_a_run_are_started_again_and_end_with_it(stq, protocol: str) -> None:
    process = stq.start(
        "run", "-q", "-", "-p", protocol, "-o", "run", "-w", "2",
        "-s", "qa.worker.mode=process", "-s", "mock.latency_ms=10", stdin=subprocess.PIPE,
    )  # fmt: skip
    results = stq.directory / "run" / "results.jsonl"
    numbers = itertools.count()
    asked: list[str] = []

    def ask(count: int) -> None:
        asked.extend(f"q{number}" for number in itertools.islice(numbers, count))
        process.stdin.writelines(f'{{"id": "{name}", "question": "{name}?"}}\n' for name in asked[-count:])
        process.stdin.flush()

    ask(40)
    wait_for_lines(results, 20)
    first, second = children_of(process.pid)
    os.kill(first, signal.SIGKILL)
    until(lambda: len(children_of(process.pid)) == 2 and first not in children_of(process.pid))
    before = len(asked)

    def both_answer_again() -> bool:
        if len(asked) - lines(results) < 20:
            ask(20)
        rows = results.read_bytes().rpartition(b"\n")[0].splitlines()
        answered_by = {row["question_id"]: row["worker"] for row in map(json.loads, rows)}
        return {answered_by.get(name) for name in asked[before:]} >= {"Worker-1", "Worker-2"}

    until(both_answer_again)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert "starting another" in talk
    assert_each_once(stq.rows(), len(asked))
    until(lambda: not alive(second))


def test_worker_processes_do_not_outlive_a_run_that_is_killed(stq) -> None:
    process = stq.start(
        "run",
        "-q",
        str(stq.questions(400)),
        "-o",
        "run",
        "-w",
        "2",
        "-s",
        "qa.worker.mode=process",
        "-s",
        "mock.latency_ms=1000",
    )
    wait_for_lines(stq.directory / "run" / "results.jsonl", 1)
    children = children_of(process.pid)
    assert len(children) == 2
    process.kill()
    process.communicate()
    until(lambda: not any(map(alive, children)))
    done = stq("resume", "run", "-s", "mock.latency_ms=1")
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 400)


def test_worker_processes_that_cannot_work_are_told_of(stq) -> None:
    done = stq("run", "-p", "inproc", "-n", "2", "-s", "qa.worker.mode=process")
    assert done.returncode == 2, done.stderr
    assert "qa.worker.mode" in done.stderr


# --- a coordinator ---


OPERATOR = ("-s", "network.operator_token=commands-sesame")


def operators(stq, protocol: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a coordinator has to know those who command it by, and what they show."""
    if protocol != "anp":
        return OPERATOR, OPERATOR
    made = json.loads(stq("anp", "identity", "new", "boss", "-o", "ids/boss", "--json").stdout)
    return ("-s", f'anp.operators=["{made["did"]}"]'), ("-s", "anp.identity=ids/boss")


@pytest.mark.parametrize("protocol", EVERY)
def test_a_worker_joins_a_coordinator_and_leaves_it_politely(stq, held_worker, coordinator, protocol: str) -> None:
    knows, shows = operators(stq, protocol)
    first = held_worker(free=10, protocol=protocol)
    arguments = ("-p", protocol, "-q", str(stq.questions(200)), "-o", "run", "--worker", first.address)
    served = coordinator(*arguments, "-s", "qa.worker.concurrency=2", *knows)
    early = held_worker("--join", served.address, *shows, free=20, protocol=protocol)
    until(lambda: "idle, 2 workers" in stq("status", served.address, "-p", protocol).stdout)
    follower = stq.start("dispatch", served.address, "-p", protocol, "--follow", *shows)
    wait_for_lines(stq.directory / "run" / "results.jsonl", 30)
    late = held_worker("--join", served.address, *shows, free=40, protocol=protocol)
    wait_for_lines(stq.directory / "run" / "results.jsonl", 70)
    early.process.send_signal(signal.SIGTERM)
    stq.open_gate()
    _, talk = early.process.communicate(timeout=60)
    assert early.process.returncode == 0, talk
    assert f"joined {served.address}" in talk
    _, talk = follower.communicate(timeout=60)
    assert follower.returncode == 0, talk
    rows = stq.rows()
    assert_each_once(rows, 200)
    assert {row["worker"] for row in rows} == {"Worker-1", "Worker-2", "Worker-3"}
    assert {row["attempts"] for row in rows} == {1}
    late.process.terminate()
    assert late.process.wait(timeout=60) == 0


def test_a_worker_joins_again_when_the_coordinator_was_started_again(stq, worker, coordinator) -> None:
    arguments = ("-p", "http", "-q", str(stq.questions(4)), "--worker", worker(protocol="http").address, *OPERATOR)
    served = coordinator(*arguments)
    joining = worker("--join", served.address, *OPERATOR, protocol="http")
    until(lambda: "2 workers" in stq("status", served.address, "-p", "http").stdout)
    served.process.kill()
    served.process.wait()
    again = coordinator(*arguments, "--port", str(served.port))
    until(lambda: "2 workers" in stq("status", again.address, "-p", "http").stdout)
    joining.process.terminate()
    _, talk = joining.process.communicate(timeout=60)
    assert joining.process.returncode == 0, talk
    until(lambda: "1 workers" in stq("status", again.address, "-p", "http").stdout)


@pytest.mark.parametrize("protocol", TWO)
def test_a_round_outlives_its_follower_and_another_attaches(stq, held_worker, coordinator, protocol: str) -> None:
    workers = [argument for _ in range(2) for argument in ("--worker", held_worker(protocol=protocol).address)]
    served = coordinator("-p", protocol, "-q", str(stq.questions(200)), "-o", "run", *workers)
    address = served.address
    assert "idle, 2 workers" in stq("status", address, "-p", protocol).stdout
    early = stq("attach", address, "-p", protocol)
    assert early.returncode == 2
    assert f"no run yet; `stq dispatch {address}`" in early.stderr
    follower = stq.start("dispatch", address, "-p", protocol, "--follow")
    wait_for_lines(stq.directory / "run" / "results.jsonl", 2 * 40)
    follower.kill()
    follower.communicate()
    assert "running" in stq("status", address, "-p", protocol).stdout
    joined = stq("dispatch", address, "-p", protocol)
    assert joined.returncode == 0, joined.stderr
    assert "goes on" in joined.stderr
    polite = stq.start("attach", address, "-p", protocol)
    assert polite.stderr
    until(lambda: "[PROGRESS]" in polite.stderr.readline())
    polite.send_signal(signal.SIGINT)
    _, talk = polite.communicate(timeout=60)
    assert polite.returncode == 130
    assert f"the run goes on at {address}" in talk
    stq.open_gate()
    done = stq("attach", address, "-p", protocol)
    assert done.returncode == 0, done.stderr
    assert "200 answered" in done.stdout
    assert "200 of 200 questions answered, 0 failed" in done.stderr
    assert_each_once(stq.rows(), 200)
    again = stq("dispatch", address, "-p", protocol, "--follow")
    assert again.returncode == 2
    assert "holds a finished run" in again.stderr
    served.process.terminate()
    _, talk = served.process.communicate(timeout=60)
    assert served.process.returncode == 0, talk


@pytest.mark.parametrize("protocol", TWO)
def test_a_coordinator_killed_under_its_follower_is_served_again_and_the_round_goes_on(
    stq, held_worker, coordinator, protocol: str
) -> None:
    one = held_worker(protocol=protocol)
    arguments = ("-p", protocol, "-q", str(stq.questions(100)), "-o", "run", "--resume", "--worker", one.address)
    served = coordinator(*arguments)
    follower = stq.start("dispatch", served.address, "-p", protocol, "--follow", "--json")
    wait_for_lines(stq.directory / "run" / "results.jsonl", 40)
    served.process.kill()
    served.process.wait()
    coordinator(*arguments, "--port", str(served.port))
    stq.open_gate()
    out, talk = follower.communicate(timeout=60)
    assert follower.returncode == 0, talk
    assert json.loads(out)["answered"] == 100
    assert_each_once(stq.rows(), 100)
    assert {row["attempts"] for row in stq.rows()} == {1}


def test_a_coordinator_told_to_stop_drains_and_can_go_on(stq, held_worker, coordinator) -> None:
    one = held_worker()
    arguments = ("-q", str(stq.questions(100)), "-o", "run", "--resume", "--worker", one.address)
    served = coordinator(*arguments)
    follower = stq.start("dispatch", served.address, "--follow")
    wait_for_lines(stq.directory / "run" / "results.jsonl", 40)
    served.process.terminate()
    until(lambda: "finishing the questions in flight" in served.process.stderr.readline())
    stq.open_gate()
    _, talk = served.process.communicate(timeout=60)
    assert served.process.returncode == 0, talk
    assert stq.manifest()["state"] == "stopped"
    follower.send_signal(signal.SIGINT)  # it would ask for half a minute more
    _, talk = follower.communicate(timeout=60)
    assert follower.returncode in (75, 130), talk
    again = coordinator(*arguments)
    done = stq("attach", again.address)
    assert done.returncode == 0, done.stderr
    assert_each_once(stq.rows(), 100)


def test_a_coordinator_starts_workers_where_it_is_given_none_and_waits_for_those_it_is_given(stq, coordinator) -> None:
    alone = coordinator("-q", str(stq.questions(20)), "-s", "qa.worker.count=2", "-s", "mock.latency_ms=1")
    done = stq("dispatch", alone.address, "--follow", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answered"] == 20
    lonely = coordinator(
        "-q", str(stq.questions(20)), "-s", "scheduler.no_worker_timeout_s=1", "--worker", "http://127.0.0.1:9"
    )
    done = stq("dispatch", lonely.address, "--follow")
    assert done.returncode == 69, done.stderr
    assert "stopped, 0 answered, 0 failed" in stq("status", lonely.address).stdout


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """The worker processes of a run."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    children = [int(line.split()[0]) for line in listed.splitlines() if "worker_process" in line]
    return [child for child in children if alive(child)]
