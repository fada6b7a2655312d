"""Backends that leave something behind with each message."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class LeaksTasks(InprocCommBackend):
    """Starts a task a message that waits for ever."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        self.__dict__.setdefault("left", set()).add(asyncio.ensure_future(asyncio.Event().wait()))
        return await super().send(src_id, dst_id, payload)

    async def close(self) -> None:
        await super().close()
        for task in self.__dict__.get("left", ()):
            task.cancel()


class LeaksSockets(InprocCommBackend):
    """Opens a socket a message and forgets it."""

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        if len(left := self.__dict__.setdefault("left", [])) < 500:
            left.append(socket.socket())
        return await super().send(src_id, dst_id, payload)

    async def close(self) -> None:
        await super().close()
        for each in self.__dict__.get("left", ()):
            each.close()


class LeaksThreads(InprocCommBackend):
    """Starts a thread for every tenth message, and does not end it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.messages = 0
        self.ended = threading.Event()

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        self.messages += 1
        if self.messages % 10 == 0:
            threading.Thread(target=self.ended.wait, name="left", daemon=True).start()
        return await super().send(src_id, dst_id, payload)

    async def close(self) -> None:
        await super().close()
        self.ended.set()
