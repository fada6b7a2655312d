"""The class that a backend's test inherits from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from streaming_queue.testing.checks.addressing import Addressing
from streaming_queue.testing.checks.cancelling import Cancelling
from streaming_queue.testing.checks.claiming import Claiming, Leaking
from streaming_queue.testing.checks.credentials import Credentials
from streaming_queue.testing.checks.ending import Closing, Probing
from streaming_queue.testing.checks.failing import Failing
from streaming_queue.testing.checks.faults import Faults
from streaming_queue.testing.checks.hosting import Hosting
from streaming_queue.testing.checks.metadata import Metadata
from streaming_queue.testing.checks.repeating import Repeating
from streaming_queue.testing.checks.sending import Sending
from streaming_queue.testing.checks.streaming import Streaming
from streaming_queue.testing.lab import Lab, make_backend
from streaming_queue.testing.relay import LOOPBACK


class BackendContract(
    Sending,
    Addressing,
    Failing,
    Faults,
    Streaming,
    Cancelling,
    Metadata,
    Repeating,
    Hosting,
    Credentials,
    Probing,
    Closing,
    Claiming,
    Leaking,
):
    """Every check of the contract, for one backend; a subclass says which.

    ```python
    class TestMine(BackendContract):
        backend_class = MyCommBackend
    ```

    Each check has a backend of its own, made of `backend_class` with `backend_options` and closed at its end, and its
    agents behind a relay (`Relay`): hosted by the backend, or the one at `endpoint`.
    """

    backend_class: ClassVar[Any]
    """The class under test."""
    endpoint_echoes: ClassVar[bool] = False
    """Whether the agent at `endpoint` answers each question with its text, so that texts can be checked."""
    bind: ClassVar[str] = LOOPBACK
    """Where agents are hosted."""
    relayed: ClassVar[bool] = True
    """False: the protocol signs the address, so nothing may stand between; what needs a faulty wire is skipped."""

    @pytest.fixture
    def backend_options(self) -> Mapping[str, Any]:
        """Keywords for the constructor of `backend_class`, beside the kit's `host_options`; to be overridden."""
        return {}

    @pytest.fixture
    def endpoint(self) -> str | None:
        """The address of an agent that somebody else runs, asked instead of hosted ones; to be overridden."""
        return None

    @pytest_asyncio.fixture(loop_scope="function")
    async def lab(
        self, request: pytest.FixtureRequest, backend_options: Mapping[str, Any], endpoint: str | None
    ) -> AsyncIterator[Lab]:
        """What the checks work with: the backend, its agents, their wires."""
        request.node.user_properties.append(("contract", request.function.contract_line.id))
        backend = make_backend(self.backend_class, backend_options, request.function.grace_s)
        lab = Lab(backend, endpoint=endpoint, echoes=self.endpoint_echoes, bind=self.bind, relayed=self.relayed)
        try:
            yield lab
        finally:
            await lab.close()
