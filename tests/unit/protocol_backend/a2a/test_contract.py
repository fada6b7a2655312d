from __future__ import annotations

import pytest
from unit.protocol_backend.contract import BackendContract

from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


class TestA2A(BackendContract):
    backend_class = A2ACommBackend
