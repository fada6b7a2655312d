"""The process of a worker whose owner dies: it ends, and says nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import orjson
import pytest

from streaming_queue.config import Config
from streaming_queue.config.redaction import revealed
from streaming_queue.runner.processes import MODULE


def order() -> bytes:
    config = Config.of({"protocol": "http", "core": {"type": "mock"}})
    return orjson.dumps({"config": revealed(config), "agent_id": "W1", "host": "127.0.0.1", "port": 0}) + b"\n"


@pytest.mark.parametrize("written", [0, 20, None], ids=["before the order", "within the order", "after the order"])
def test_a_worker_whose_owner_dies_while_it_starts_ends_without_a_word(written: int | None) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # the dead owner reads no more
    with subprocess.Popen(
        [sys.executable, "-m", MODULE], stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.close(writing)
        assert process.stdin
        _, talk = process.communicate(order()[:written], timeout=60)
    assert talk == b""
    assert process.returncode in {0, 75}
