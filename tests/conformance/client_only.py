from __future__ import annotations

from streaming_queue.comm.base import BaseCommBackend, Capabilities
from streaming_queue.protocol_backend.http.comm import HttpCommBackend


class ClientOnly(HttpCommBackend):
    """Hosts nothing in this process."""

    capabilities = Capabilities(streaming=True, cancel=True, metadata=True)
    spawn_local_agent = BaseCommBackend.spawn_local_agent
