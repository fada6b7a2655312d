"""The socket that a backend listens on. See `comm.host.listener`."""

from streaming_queue.comm.host.listener import BACKLOG, listen

__all__ = ["BACKLOG", "listen"]
