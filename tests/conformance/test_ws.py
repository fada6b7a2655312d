from __future__ import annotations

import pytest

from streaming_queue.protocol_backend.ws.comm import WsCommBackend
from streaming_queue.testing import BackendContract


@pytest.mark.usefixtures("no_stray_tasks")
class TestWs(BackendContract):
    backend_class = WsCommBackend
