from __future__ import annotations

import pytest

from streaming_queue.protocol_backend.grpc.comm import GrpcCommBackend
from streaming_queue.testing import BackendContract


@pytest.mark.usefixtures("no_stray_tasks")
class TestGrpc(BackendContract):
    backend_class = GrpcCommBackend
