from __future__ import annotations

import pytest

from streaming_queue.protocol_backend.mcp.comm import McpCommBackend
from streaming_queue.testing import BackendContract


@pytest.mark.usefixtures("no_stray_tasks")
class TestMcp(BackendContract):
    backend_class = McpCommBackend
