"""The configuration section of a2a: its keys are keywords of the backend."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streaming_queue.config.backends import BackendSection


class A2A(BackendSection):
    """The interfaces of A2A, for the protocol a2a."""

    grpc: bool = Field(
        False, description="Serve agents by gRPC, too, on a free port of its own, which their cards name (extra grpc)."
    )
    binding: Literal["JSONRPC", "HTTP+JSON", "GRPC"] = Field(
        "JSONRPC",
        description="The interface by which agents are asked where their cards offer it; where not, or where gRPC "
        "cannot be used or connected to, another of theirs, which is logged.",
    )
