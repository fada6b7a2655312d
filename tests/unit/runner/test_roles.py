from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streaming_queue.comm import registry
from streaming_queue.config import Config
from streaming_queue.core.executors import CoordinatorExecutor, WorkerExecutor
from streaming_queue.errors import ConfigError
from streaming_queue.runner.roles import coordinator_class, load_executor, worker_class

AGENTS = """
class Guides:
    def __init__(self, config=None, output=None):
        self.made_with = config, output
    async def execute(self, context, event_queue): ...

class Configured(Guides):
    def __init__(self, config):
        self.made_with = config

class Bare(Guides):
    def __init__(self):
        self.made_with = None

class Demanding(Guides):
    def __init__(self, one, two, three): ...

class Blocking:
    def execute(self, context, event_queue): ...
"""

BACKEND = """
from streaming_queue.comm.base import BaseCommBackend

class OwnCommBackend(BaseCommBackend):
    async def send(self, src_id, dst_id, payload): ...
    async def health_check(self, agent_id): ...
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry])
    return tmp_path


def test_a_protocol_without_roles_of_its_own_gets_those_for_all() -> None:
    backend = registry.create("inproc")
    assert coordinator_class(backend) is CoordinatorExecutor
    assert worker_class(backend) is WorkerExecutor


def test_the_roles_beside_a_backend_are_its_own(here: Path) -> None:
    package = here / "own_protocol"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "comm.py").write_text(BACKEND)
    (package / "worker.py").write_text(
        "from streaming_queue.core.executors import WorkerExecutor\nclass OwnWorkerExecutor(WorkerExecutor): ...\n"
    )
    backend = registry.create("own_protocol.comm:OwnCommBackend")
    assert worker_class(backend).__name__ == "OwnWorkerExecutor"
    assert coordinator_class(backend) is CoordinatorExecutor


@pytest.mark.parametrize(("name", "made_with"), [("Guides", ("c", "o")), ("Configured", "c"), ("Bare", None)])
def test_an_executor_is_made_as_its_author_wants_it(here: Path, name: str, made_with: Any) -> None:
    (here / "their_agents.py").write_text(AGENTS)
    config: Any = "c"
    assert load_executor(f"their_agents:{name}", config, "o").made_with == made_with


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("their_agents:Demanding", "must be made with"),
        ("their_agents:Blocking", "async def execute"),
        ("their_agents:Missing", "no class 'Missing'"),
        ("not_there:Any", "no module 'not_there'"),
        ("their_agents", "package.module:Class"),
    ],
)
def test_an_error_names_the_class_that_is_not_an_executor(here: Path, target: str, words: str) -> None:
    (here / "their_agents.py").write_text(AGENTS)
    with pytest.raises(ConfigError, match=words) as caught:
        load_executor(target, Config())
    assert target in str(caught.value)
