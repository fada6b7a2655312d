from __future__ import annotations

import pytest

from streaming_queue.protocol_backend.anp.comm import AnpCommBackend
from streaming_queue.testing import BackendContract


@pytest.mark.usefixtures("no_stray_tasks")
class TestAnp(BackendContract):
    backend_class = AnpCommBackend
