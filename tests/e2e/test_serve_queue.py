"""A queue that is served over HTTP, as programs use it: real processes, real sockets, kills."""

from __future__ import annotations

import json
import random
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Any

import openai
import pytest
from e2e.conftest import Served, Stq, serve

LINES = "application/x-ndjson"


class Api:
    """The API of a served queue, by the standard library."""

    def __init__(self, served: Served) -> None:
        self.process = served.process
        self.url = served.address

    def open(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, named, method=method)  # noqa: S310 (our own server)
        return urllib.request.urlopen(request, timeout=60)  # noqa: S310

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            with self.open(method, path, data, **headers) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def put(self, run: str, *questions: dict[str, Any]) -> tuple[int, Any]:
        body = b"".join(json.dumps(question).encode() + b"\n" for question in questions)
        return self.call("POST", f"/v1/runs/{run}/questions", body, content_type=LINES)

    def rows(self, run: str, after: str = "") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            with self.open("GET", f"/v1/runs/{run}/rows?after={after}") as answer:
                page = [json.loads(line) for line in answer.read().splitlines()]
            if not page:
                return rows
            rows += page
            after = page[-1]["cursor"]

    def until(self, run: str, **counts: int) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            _, shown = self.call("GET", f"/v1/runs/{run}")
            if counts.items() <= shown["counts"].items():
                return shown
            time.sleep(0.05)
        raise AssertionError(f"{run} has not come to {counts}: {shown}")


@pytest.fixture
def queue(stq: Stq) -> Callable[..., Api]:
    """`queue(*arguments)` serves the queue `q` with the mock, and waits until it is ready."""

    def start(*more: str, latency_ms: float = 1) -> Api:
        return Api(serve(stq, "queue", "q", "--port", "0", "-p", "http", "-s", f"mock.latency_ms={latency_ms}", *more))

    return start


def events(answer: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The id and the data of each event of a stream."""
    name = ""
    for raw in answer:
        line = raw.decode().rstrip("\n")
        if line.startswith("id: "):
            name = line[4:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


def test_questions_are_submitted_answered_and_read_by_poll_and_stream(queue) -> None:
    api = queue()
    assert api.call("GET", "/healthz") == (200, {"status": "ok"})
    assert api.call("GET", "/readyz")[0] == 200
    status, made = api.call("POST", "/v1/runs", {"name": "mine", "weight": 2})
    assert (status, made["state"], made["weight"]) == (201, "open", 2.0)
    assert api.call("POST", "/v1/runs", {"name": "mine"})[0] == 200
    status, told = api.put("mine", {"q": "one?", "id": "a"}, {"q": "two?", "answer": "2"}, {"q": "three?", "id": "c"})
    assert (status, told["added"], told["ids"][::2]) == (202, 3, ["a", "c"])
    assert api.put("mine", {"q": "one?", "id": "a"})[1] == {"added": 0, "known": 1, "ids": ["a"], "renamed": []}
    api.until("mine", done=3)
    rows = api.rows("mine")
    assert {row["question_id"]: row["question"] for row in rows}["a"] == "one?"
    assert {row["question_id"] for row in rows} == set(told["ids"])
    assert api.call("POST", "/v1/runs/mine/seal")[1]["state"] == "done"
    with api.open("GET", "/v1/runs/mine/rows", accept="text/event-stream") as stream:
        seen = list(events(stream))
    assert [data for _, data in seen] == [*rows, {}]
    with api.open("GET", "/v1/runs/mine/rows", accept="text/event-stream", last_event_id=seen[0][0]) as stream:
        assert [data for _, data in events(stream)] == [*rows[1:], {}]
    assert [run["name"] for run in api.call("GET", "/v1/runs")[1]["runs"]] == ["default", "mine"]
    assert api.call("DELETE", "/v1/runs/mine") == (204, None)
    assert api.call("GET", "/v1/runs/mine")[0] == 404


def test_the_official_client_asks_and_is_told_what_is_not_honoured(queue) -> None:
    api = queue()
    said: list[Any] = [{"role": "user", "content": "What is one and one?"}]
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0) as client:
        (model,) = [each.id for each in client.models.list()]
        whole = client.chat.completions.create(model=model, messages=said).choices[0]
        assert (whole.message.content or "").startswith("[mock]")
        chunks = list(client.chat.completions.create(model=model, messages=said, stream=True))
        pieces = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert (pieces, chunks[-1].choices[0].finish_reason) == (whole.message.content, "stop")
        assert client.responses.create(model=model, input="What is one and one?").output_text == pieces
        with client.responses.stream(model=model, input="What is one and one?") as stream:
            assert stream.get_final_response().output_text == pieces
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=model, messages=said, n=2, seed=7)
        assert all(name in caught.value.message for name in ("n, seed", "400"))
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-4o", messages=said)
    assert [row["question"] for row in api.rows("default")] == ["What is one and one?"] * 4


def test_a_question_without_an_answer_is_502_and_no_client_repeats_it(queue) -> None:
    api = queue("-s", "mock.failure_rate=1", "-s", "scheduler.max_attempts=1")
    said: list[Any] = [{"role": "user", "content": "x"}]
    with (
        openai.OpenAI(base_url=f"{api.url}/v1", api_key="none") as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.chat.completions.create(model="pool/default", messages=said)
    assert caught.value.status_code == 502
    assert len(api.rows("default")) == 1


@pytest.mark.parametrize(
    "refused",
    [
        ("GET", "/v1/runs/none", None, "", 404),
        ("GET", "/nowhere", None, "", 404),
        ("PUT", "/v1/runs", b"{}", "", 405),
        ("POST", "/v1/runs", b"{", "", 400),
        ("POST", "/v1/runs", b'{"name": "../up"}', "", 400),
        ("POST", "/v1/runs", b'{"name": "a", "wait": 3}', "", 400),
        ("POST", "/v1/runs", b'{"weight": 1e9}', "", 400),
        ("POST", "/v1/runs/default/questions", b'{"q": "x"}', "text/plain", 415),
        ("POST", "/v1/runs/default/questions", b'{"q": "x"}\nbad\n', LINES, 422),
        ("POST", "/v1/runs/none/questions", b'{"q": "x"}\n', LINES, 404),
        ("POST", "/v1/runs/default/seal", None, "", 400),
        ("POST", "/v1/runs/default/explode", None, "", 404),
        ("DELETE", "/v1/runs/default", None, "", 400),
        ("GET", "/v1/runs/default/rows?after=nonsense", None, "", 400),
        ("POST", "/v1/chat/completions", b'{"messages": []}', "application/json", 400),
        ("POST", "/v1/runs/default/questions", b"x" * 1_100_000, LINES, 413),
    ],
)
def test_a_bad_request_is_refused_by_its_status(refused, shared_queue) -> None:
    method, path, body, kind, status = refused
    found, told = shared_queue.call(method, path, body, **({"content_type": kind} if kind else {}))
    assert found == status, told
    assert told["error"]


@pytest.fixture(scope="module")
def shared_queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One served queue for requests that change nothing."""
    stq = Stq(tmp_path_factory.mktemp("shared"))
    api = Api(serve(stq, "queue", "q", "--port", "0", "-p", "http"))
    yield api
    assert api.call("GET", "/v1/runs/default")[1]["counts"] == {"ready": 0, "leased": 0, "done": 0, "dead": 0}
    api.process.kill()
    api.process.communicate(timeout=60)


def test_a_run_is_stopped_goes_on_and_is_cancelled(queue) -> None:
    api = queue(latency_ms=20)
    for name in ("a", "b"):
        api.call("POST", "/v1/runs", {"name": name})
        assert api.call("POST", f"/v1/runs/{name}/stop")[1]["state"] == "stopped"
        api.put(name, *({"q": f"{number}?", "id": f"{number}"} for number in range(40)))
    api.put("default", {"q": "go?", "id": "x"})
    api.until("default", done=1)
    assert api.call("GET", "/v1/runs/a")[1]["counts"]["ready"] == 40
    with api.open("GET", "/v1/runs/a/rows", accept="text/event-stream") as stream:
        api.call("POST", "/v1/runs/a/resume")
        followed = [next(rows)[1]["question_id"] for rows in [events(stream)] for _ in range(40)]
    assert sorted(followed) == sorted(f"{number}" for number in range(40))
    api.until("a", done=40)
    assert api.call("POST", "/v1/runs/b/cancel")[1]["state"] == "cancelled"
    assert {row["error"]["type"] for row in api.rows("b")} == {"RunCancelledError"}
    assert api.put("b", {"q": "late?"})[0] == 409


def test_a_run_that_is_deleted_in_the_middle_of_its_work_stops_no_other(queue) -> None:
    api = queue(latency_ms=50)
    for _ in range(3):
        api.call("POST", "/v1/runs", {"name": "gone"})
        api.put("gone", *({"q": f"{number}?", "id": f"{number}"} for number in range(100)))
        with api.open("GET", "/v1/runs/gone/rows", accept="text/event-stream") as stream:
            next(events(stream))  # workers are at it
        assert api.call("DELETE", "/v1/runs/gone")[0] == 204
        assert api.call("GET", "/readyz") == (200, {"status": "ok"})
    api.put("default", *({"q": f"{number}?", "id": f"{number}"} for number in range(20)))
    api.until("default", done=20)
    api.process.send_signal(signal.SIGTERM)
    assert "next try" not in api.process.communicate(timeout=60)[1]
    assert api.process.returncode == 0


def test_what_was_acknowledged_has_one_end_however_often_the_queue_is_killed(queue) -> None:
    chance, accepted = random.Random(5), set[str]()
    for life in range(4):
        api = queue(latency_ms=5)
        api.call("POST", "/v1/runs", {"name": "big"})
        killer_at = time.monotonic() + chance.uniform(0.2, 0.9)
        number = 0
        while time.monotonic() < killer_at:
            batch = [{"q": f"{life}-{number}-{index}?", "id": f"{life}-{number}-{index}"} for index in range(20)]
            try:
                if api.put("big", *batch)[0] == 202:
                    accepted |= {question["id"] for question in batch}
            except (OSError, HTTPException):
                break
            number += 1
        api.process.kill()
        api.process.wait()
    api = queue()
    api.until("big", ready=0, leased=0)
    rows = api.rows("big")
    assert len({row["question_id"] for row in rows}) == len(rows)
    assert accepted
    assert accepted <= {row["question_id"] for row in rows if row["status"] == "success"}


def test_a_signal_drains_and_a_second_process_is_refused(stq, queue) -> None:
    api = queue(latency_ms=300)
    api.put("default", *({"q": f"{number}?", "id": f"{number}"} for number in range(200)))
    second = stq("serve", "queue", "q", "--port", "0", "-p", "http")
    assert second.returncode == 2, second.stderr
    assert str(api.process.pid) in second.stderr
    api.process.send_signal(signal.SIGTERM)
    _, talk = api.process.communicate(timeout=60)
    assert api.process.returncode == 0, talk
    api = queue()
    api.until("default", done=200)
    assert {row["attempts"] for row in api.rows("default")} == {1}


def test_other_machines_do_not_reach_it(stq) -> None:
    done = stq("serve", "queue", "q", "--host", "0.0.0.0", "--port", "0", "-p", "http")
    assert done.returncode == 2, done.stderr


def test_it_waits_for_workers_and_says_so(stq, queue, worker) -> None:
    first = worker(protocol="http")
    api = queue("--worker", first.address)
    first.process.kill()
    first.process.wait()
    api.put("default", {"q": "anybody?", "id": "x"})
    deadline = time.monotonic() + 30
    while api.call("GET", "/readyz")[0] == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "waiting for workers" in api.call("GET", "/readyz")[1]["status"]
    worker(protocol="http", port=first.port)
    api.until("default", done=1)
    assert api.call("GET", "/readyz")[0] == 200
