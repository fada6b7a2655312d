"""What every test gets: a blocking call in the event loop is an error, and a stray task is one too."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

# What the tests start, they start some hundred times. A fifth of its cost is to read all the authorities that the
# machine trusts, of which no test has need, and to compile our modules again where an environment forbids to keep them.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("nobody.pem"))
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False  # else pytest rewrites the assertions of all files for each process of each run

# How long an example takes to be made says how busy the machine is.
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    with blockbuster_ctx("streaming_queue") as blockbuster:
        yield blockbuster


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("STQ_", "OPENAI_", "NATS_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tests keep for the user, they keep apart from the user's own."""
    folder = tmp_path_factory.getbasetemp() / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture
def fixed_ports() -> Iterator[None]:
    """The guide and the documents name ports: one test at a time on this machine."""
    with (Path(tempfile.gettempdir()) / "streaming-queue-fixed-ports.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
async def no_stray_tasks():
    """The test leaves no task of its own behind, but for those that end by themselves: a library's last words, say."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    if left := asyncio.all_tasks() - before - {asyncio.current_task()}:
        _, left = await asyncio.wait(left, timeout=2)
    assert left == set()
