"""The conformance kit: the contract of a backend as tests that anybody can run over theirs (docs/conformance.md).

A backend's whole test file:

```python
from streaming_queue.testing import BackendContract
from my_package import MyCommBackend


class TestMine(BackendContract):
    backend_class = MyCommBackend
```

Importing it needs the extra `testing`; without, it raises BackendNotInstalledError.
"""

from __future__ import annotations

from streaming_queue.errors import BackendNotInstalledError
from streaming_queue.extras import install_command

try:
    import pytest  # noqa: F401 (whether it is there)
    import pytest_asyncio  # noqa: F401
except ModuleNotFoundError as error:
    told = f"streaming_queue.testing needs {error.name!r}: {install_command('testing')}"
    raise BackendNotInstalledError(told) from error

from streaming_queue.testing.backend_contract import BackendContract
from streaming_queue.testing.contract import CONTRACT, KIT_VERSION, SECTIONS, Line
from streaming_queue.testing.executors import Agent, Echo, Gate, Stubborn, message, soon
from streaming_queue.testing.relay import Relay

__all__ = [
    "CONTRACT",
    "KIT_VERSION",
    "SECTIONS",
    "Agent",
    "BackendContract",
    "Echo",
    "Gate",
    "Line",
    "Relay",
    "Stubborn",
    "message",
    "soon",
]
