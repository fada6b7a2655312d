from __future__ import annotations

import pytest

from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
from streaming_queue.testing import BackendContract


@pytest.mark.usefixtures("no_stray_tasks")
class TestA2A(BackendContract):
    backend_class = A2ACommBackend
