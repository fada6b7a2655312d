from __future__ import annotations

import pytest
from unit.protocol_backend.contract import BackendContract

from streaming_queue.protocol_backend.ws.comm import WsCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


class TestWs(BackendContract):
    backend_class = WsCommBackend
