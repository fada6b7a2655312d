"""The library's own thread, which waits for the network."""

from __future__ import annotations

from functools import cache

import grpc.aio


@cache
def keep_engine() -> None:
    """Keep the thread as long as the process lives; called before the first channel or server is made.

    Otherwise the library ends it, and waits for that, where its last object is collected: in the middle of anybody's
    event loop.
    """
    grpc.aio.init_grpc_aio()
