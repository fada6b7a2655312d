from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from streaming_queue.protocol_backend.a2a.card import GRPC
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
from streaming_queue.testing import BackendContract


@pytest.mark.usefixtures("no_stray_tasks")
class TestA2A(BackendContract):
    backend_class = A2ACommBackend


class TestA2AOverGrpc(TestA2A):
    relayed = False  # the card names gRPC's own port, so a wire before the card's is not between

    @pytest.fixture
    def backend_options(self) -> Mapping[str, Any]:
        return {"grpc": True, "binding": GRPC}
