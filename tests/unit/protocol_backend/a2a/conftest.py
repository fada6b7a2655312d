from __future__ import annotations

import pytest

from streaming_queue.comm.base import EndpointOptions
from streaming_queue.protocol_backend.a2a import exchange
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend


@pytest.fixture
async def backend():
    backend = A2ACommBackend(options={"w": EndpointOptions(credential="s3cret", headers={"X-Team": "blue"})})
    yield backend
    await backend.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(exchange, "LONGEST_PAUSE_S", 0.02)
