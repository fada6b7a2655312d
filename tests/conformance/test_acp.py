from __future__ import annotations

import pytest

from streaming_queue.protocol_backend.acp.comm import AcpCommBackend
from streaming_queue.testing import BackendContract


@pytest.mark.usefixtures("no_stray_tasks")
class TestAcp(BackendContract):
    backend_class = AcpCommBackend
