from __future__ import annotations

import pytest

from streaming_queue.protocol_backend.http.comm import HttpCommBackend
from streaming_queue.testing import BackendContract


@pytest.mark.usefixtures("no_stray_tasks")
class TestHttp(BackendContract):
    backend_class = HttpCommBackend
