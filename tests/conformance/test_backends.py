"""The kit holds each registered protocol to the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from streaming_queue.comm import registry
from streaming_queue.protocol_backend.a2a.card import GRPC
from streaming_queue.testing import BackendContract


def contract(protocol: str) -> type[BackendContract]:
    """A class of tests, as an author of a backend writes it."""
    made = type(f"Test_{protocol}", (BackendContract,), {"backend_class": registry.load(protocol)})
    return pytest.mark.usefixtures("no_stray_tasks")(made)


for _spec in registry.BUILTIN:
    globals()[f"Test_{_spec.name}"] = contract(_spec.name)


class TestA2AOverGrpc(contract("a2a")):
    relayed = False  # the card names gRPC's own port, so a wire before the card's is not between

    @pytest.fixture
    def backend_options(self) -> Mapping[str, Any]:
        return {"grpc": True, "binding": GRPC}
