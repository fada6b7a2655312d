from __future__ import annotations

import pytest

from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend
from streaming_queue.testing import BackendContract


@pytest.mark.usefixtures("no_stray_tasks")
class TestInproc(BackendContract):
    backend_class = InprocCommBackend
