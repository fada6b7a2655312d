from __future__ import annotations

import os
import sys

from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class Dies(InprocCommBackend):
    """Takes the process with it."""

    async def close(self) -> None:
        print("goodbye", file=sys.__stderr__, flush=True)
        os._exit(7)
