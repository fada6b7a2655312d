from __future__ import annotations

from unit.protocol_backend.contract import BackendContract

from streaming_queue.protocol_backend.nats.comm import NatsCommBackend


class TestNats(BackendContract):
    backend_class = NatsCommBackend
