"""A backend written word for word after the guide's section 3, at the guide's own paths in a checkout, runs.

`toy/` is kept as the guide has it: relative imports, fixed ports, its own bookkeeping, no `super().__init__()`, a host
that carries text alone, no `__init__.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from guide.checkout import TOY, Checkout

RUNNER = "script.streaming_queue.runner"
BACKEND = "script.streaming_queue.protocol_backend.toy"

pytestmark = pytest.mark.usefixtures("fixed_ports")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = Checkout.create(tmp_path_factory.mktemp("guide"))
    checkout.put_toy()
    return checkout


@pytest.fixture
def checkout(made: Checkout) -> Checkout:
    shutil.rmtree(made.root / "runs", ignore_errors=True)
    return made


@pytest.fixture
def elsewhere(checkout: Checkout) -> Iterator[Checkout]:
    """The checkout, while the guide's agents run in a process of their own."""
    with checkout.start("-m", f"{BACKEND}.serve_toy") as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield checkout
        process.terminate()


def rows_of(directory: Path) -> list[dict]:
    (results,) = directory.glob("runs/*/results.jsonl")
    return [json.loads(line) for line in results.read_text().splitlines()]


def test_situation_a_agents_in_this_process(checkout: Checkout) -> None:
    done = checkout.run("-m", f"{RUNNER}.run_toy")
    assert done.returncode == 0, done.stderr
    assert "idle, 2 workers" in done.stderr
    assert "50 of 50 questions answered" in done.stderr
    rows = rows_of(checkout.root)
    assert len(rows) == 50
    assert {row["protocol"] for row in rows} == {"toy"}
    assert {row["worker"] for row in rows} == {"Worker-1", "Worker-2"}
    assert all(row["answer"].startswith("[mock]") for row in rows)


def test_situation_b_agents_elsewhere(elsewhere: Checkout) -> None:
    done = elsewhere.run("-m", f"{RUNNER}.run_toy_external")
    assert done.returncode == 0, done.stderr
    assert "Coordinator-1: idle" in done.stderr
    assert "20 of 20 questions answered, 0 failed: runs/" in done.stderr
    assert len(rows_of(elsewhere.root)) == 20


def test_workers_elsewhere_by_the_default_runner(elsewhere: Checkout) -> None:
    endpoints = "qa.worker.endpoints=[http://127.0.0.1:10001, http://127.0.0.1:10002]"
    done = elsewhere.stq("run", "-p", "toy", "-n", "20", "-s", endpoints)
    assert done.returncode == 0, done.stderr
    assert {row["worker"] for row in rows_of(elsewhere.root)} == {"Worker-1", "Worker-2"}


@pytest.mark.parametrize("mode", ["inprocess", "process"])
def test_by_its_name(checkout: Checkout, tmp_path: Path, mode: str) -> None:
    sets = ("-s", "mock.latency_ms=1", "-s", f"qa.worker.mode={mode}")
    done = checkout.stq("run", "-p", "toy", "-n", "20", "-w", "2", *sets, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row["protocol"] for row in rows_of(tmp_path)} == {"toy"}


def test_it_is_listed(checkout: Checkout) -> None:
    entries = {entry["name"]: entry for entry in json.loads(checkout.stq("protocols", "--json").stdout)}
    toy = entries["toy"]
    assert (toy["installed"], toy["problem"]) == (True, None)
    assert toy["class"] == "streaming_queue.protocol_backend.toy.comm:ToyCommBackend"


def test_another_working_directory_adds_no_name(tmp_path: Path, checkout: Checkout) -> None:
    """The package looks into the checkout that it runs from, not into one that it happens to stand in."""
    other = Checkout.create(tmp_path / "other")
    done = other.stq("run", "-p", "toy", directory=checkout.root)
    assert done.returncode == 2
    assert "unknown protocol 'toy'" in done.stderr


def test_what_bears_the_name_of_one_of_ours_is_refused(tmp_path: Path) -> None:
    checkout = Checkout.create(tmp_path / "checkout")
    checkout.put(TOY / "comm.py", "protocol_backend/http")
    for done in (
        checkout.stq("run", "-p", "http", "-n", "1"),
        checkout.run("-m", f"{RUNNER}.run_http"),
    ):
        assert done.returncode == 2, done.stderr
        assert "script/streaming_queue/protocol_backend/http" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_class_is_one_object_under_both_names(checkout: Checkout) -> None:
    code = f"""
import importlib
import script.streaming_queue.core.network_base, {BACKEND}.worker
import streaming_queue
pairs = [("comm.base", "BaseCommBackend"), ("errors", "ConfigError"), ("runner.runner_base", "RunnerBase"),
         ("protocol_backend.toy.comm", "ToyCommBackend"), ("protocol_backend.toy.worker", "ToyWorkerExecutor"),
         ("runner.run_toy", "ToyRunner")]
for first, second in (("script.", ""), ("", "script.")):
    for module, name in pairs:
        one = importlib.import_module(f"{{first}}streaming_queue.{{module}}")
        other = importlib.import_module(f"{{second}}streaming_queue.{{module}}")
        assert one is other and getattr(one, name) is getattr(other, name), (module, name)
        assert one.__name__ == one.__spec__.name == f"streaming_queue.{{module}}"
assert script.streaming_queue is streaming_queue
from script.streaming_queue import NetworkBase
assert NetworkBase is script.streaming_queue.core.network_base.NetworkBase
try:
    import script.streaming_queue.nothing_here
except ModuleNotFoundError as error:
    assert error.name == "script.streaming_queue.nothing_here"
else:
    raise AssertionError
"""
    done = checkout.run("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["run_a2a", "run_http"])
def test_ours_run_by_both_names(checkout: Checkout, module: str) -> None:
    for package in (RUNNER, "streaming_queue.runner"):
        done = checkout.run("-W", "error", "-m", f"{package}.{module}", "--help")
        assert done.returncode == 0, done.stderr
        assert module in done.stderr


def test_a_missing_question_file_is_never_a_success(checkout: Checkout) -> None:
    config = checkout.root / "config.yaml"
    before = config.read_text()
    config.write_text("qa: {coordinator: {data_file: nowhere.jsonl}, worker: {count: 2}}\n")
    try:
        done = checkout.run("-m", f"{RUNNER}.run_toy")
    finally:
        config.write_text(before)
    assert done.returncode == 2, done.stderr
    assert "nowhere.jsonl" in done.stderr
