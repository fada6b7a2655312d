from __future__ import annotations

import pytest

from streaming_queue.protocol_backend.agora.comm import AgoraCommBackend
from streaming_queue.testing import BackendContract


@pytest.mark.usefixtures("no_stray_tasks")
class TestAgora(BackendContract):
    backend_class = AgoraCommBackend
