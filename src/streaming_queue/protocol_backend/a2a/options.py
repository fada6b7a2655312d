"""The configuration section of a2a: its keys are keywords of the backend."""

from __future__ import annotations

from typing import Literal

from streaming_queue.config.backends import BackendSection


class A2A(BackendSection):
    """The interfaces of A2A, for the protocol a2a."""

    grpc: bool = False
    """Serve agents by gRPC, too, on a free port of its own. Their cards name it (extra grpc)."""
    binding: Literal["JSONRPC", "HTTP+JSON", "GRPC"] = "JSONRPC"
    """The interface by which agents are asked where their cards offer it. Where not, or where gRPC cannot be used or
    connected to, another of theirs, which is logged."""
