"""The configuration section of a2a: its keys are keywords of the backend."""

from __future__ import annotations

from typing import Literal

from streaming_queue.config.backends import BackendSection


class A2A(BackendSection):
    """The interfaces of A2A, for the protocol a2a."""

    grpc: bool = False
    """Serve agents also by gRPC, on a separate free port; their cards name it (extra grpc)."""
    binding: Literal["JSONRPC", "HTTP+JSON", "GRPC"] = "JSONRPC"
    """The preferred interface of agents. If an agent's card does not offer it, or gRPC cannot connect, we use another
    interface of the card and log it."""
