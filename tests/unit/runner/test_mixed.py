from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streaming_queue.comm import registry
from streaming_queue.comm.registry import BackendSpec
from streaming_queue.config import Config
from streaming_queue.errors import ConfigError
from streaming_queue.runner.mixed import MixedRunner
from streaming_queue.telemetry.console import Output


class Three(MixedRunner):
    protocols = ("http", "wanting", "ws")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a protocol that lacks a library, as on a bare install."""
    monkeypatch.chdir(tmp_path)
    Path("wanting_backend.py").write_text("import a_library_that_is_not_there\n")
    spec = BackendSpec("wanting", "wanting_backend:Backend", "", extra="wanting")
    monkeypatch.setattr(registry, "BUILTIN", (*registry.BUILTIN, spec))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


async def test_without_a_configuration_there_is_a_worker_of_each_that_is_installed(here: Path) -> None:
    reported: list[str] = []
    output = Output(quiet=True)
    output.system = reported.append
    runner = Three(output=output)
    config = await asyncio.to_thread(lambda: runner.config)
    assert [group.protocol for group in config.workers] == ["http", "ws"]
    network = await runner.create_network()
    await network.close()
    assert any("wanting" in text and "pip install" in text for text in reported)


def test_a_configuration_says_more_and_may_say_who_the_workers_are(here: Path) -> None:
    (here / "config.yaml").write_text("mock: {seed: 7}\n")
    config = Three().config
    assert (config.mock.seed, len(config.workers)) == (7, 2)
    (here / "own.yaml").write_text("workers: [{protocol: inproc}]\n")
    assert [group.protocol for group in Three("own.yaml").config.workers] == ["inproc"]
    assert Three(Config()).config == Config()
    (here / "auto.yaml").write_text("protocol: auto\n")
    config = Three("auto.yaml").config
    assert [group.protocol for group in config.workers] == ["http", "ws"]
    assert config.origin("workers") == "the program's own choice"


def test_a_configuration_of_other_workers_is_refused(here: Path) -> None:
    (here / "config.yaml").write_text("qa: {worker: {count: 3}}\n")
    with pytest.raises(
        ConfigError, match=r"config\.yaml:1 and the program's own choice: qa\.worker\.count and workers"
    ):
        _ = Three().config
