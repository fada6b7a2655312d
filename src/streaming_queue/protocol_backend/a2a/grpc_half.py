"""What speaks gRPC here is imported when it is needed: its library is an extra."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from streaming_queue.comm import registry
from streaming_queue.errors import BackendNotInstalledError

T = TypeVar("T")


async def load_half(half: Callable[[], T]) -> T:
    """What `half` imports, in a thread: the library is slow to import and reads files.

    Raises BackendNotInstalledError where the library is missing.
    """
    try:
        return await asyncio.to_thread(half)
    except ImportError as error:
        install = await asyncio.to_thread(lambda: registry.find("grpc").install)
        raise BackendNotInstalledError(f"A2A over gRPC (a2a.grpc, a2a.binding) needs grpcio: {install}") from error
