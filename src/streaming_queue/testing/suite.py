"""The contract for the backend named in the environment. `running.py` starts it."""

from __future__ import annotations

import os

import pytest

from streaming_queue.comm import registry
from streaming_queue.testing.backend_contract import BackendContract
from streaming_queue.testing.running import BACKEND_VARIABLE, ECHOES_VARIABLE, ENDPOINT_VARIABLE


class TestBackend(BackendContract):
    """The checks of that backend."""

    backend_class = registry.load(os.environ[BACKEND_VARIABLE])
    endpoint_echoes = ECHOES_VARIABLE in os.environ

    @pytest.fixture
    def endpoint(self) -> str | None:
        """The agent named in the environment."""
        return os.environ.get(ENDPOINT_VARIABLE)
