"""The kit's waits for a limit: the suite runs each once, and `make interop` runs every combination."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SILENT = "test_a_silent_peer_is_left_at_the_deadline"
LEFT_OUT = (f"{SILENT}[send-late]", f"{SILENT}[stream-silent]")
"""Each way of asking and each fault stays in the suite."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.name in LEFT_OUT and HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(autouse=True)
def quick_heartbeat(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over nats, the next heartbeat finds that the reader vanished."""
    if request.node.name == "test_a_vanished_reader_frees_the_host":
        monkeypatch.setattr("streaming_queue.protocol_backend.nats.host.HEARTBEAT_S", 1.0)
