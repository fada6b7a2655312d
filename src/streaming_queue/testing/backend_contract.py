"""The base class of a backend's test."""

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
    """All checks of the contract for one backend, which a subclass names.

    ```python
    class TestMine(BackendContract):
        backend_class = MyCommBackend
    ```

    Each check creates a `backend_class` with `backend_options`, and closes it at the end. Its agents are behind a relay
    (`Relay`): the backend hosts them, or the check asks the agent at `endpoint`.
    """

    backend_class: ClassVar[Any]
    """The class under test."""
    endpoint_echoes: ClassVar[bool] = False
    """Whether the agent at `endpoint` answers with the text of the question, so that a check knows the answer."""
    bind: ClassVar[str] = LOOPBACK
    """Host of the agents."""
    relayed: ClassVar[bool] = True
    """False if the protocol signs the address, so that no relay is possible. Checks with a faulty wire are skipped."""

    @pytest.fixture
    def backend_options(self) -> Mapping[str, Any]:
        """Keywords for the constructor of `backend_class`, beside the kit's `host_options`; override it."""
        return {}

    @pytest.fixture
    def endpoint(self) -> str | None:
        """The address of a running agent to ask instead of hosted agents; override it."""
        return None

    @pytest_asyncio.fixture(loop_scope="function")
    async def lab(
        self, request: pytest.FixtureRequest, backend_options: Mapping[str, Any], endpoint: str | None
    ) -> AsyncIterator[Lab]:
        """The backend of a check, its agents and their wires."""
        request.node.user_properties.append(("contract", request.function.contract_line.id))
        backend = make_backend(self.backend_class, backend_options, request.function.grace_s)
        lab = Lab(backend, endpoint=endpoint, echoes=self.endpoint_echoes, bind=self.bind, relayed=self.relayed)
        try:
            yield lab
        finally:
            await lab.close()
