from __future__ import annotations

import pytest

from streaming_queue.protocol_backend.nats.comm import NatsCommBackend
from streaming_queue.testing import BackendContract


@pytest.mark.usefixtures("no_stray_tasks")
class TestNats(BackendContract):
    backend_class = NatsCommBackend
