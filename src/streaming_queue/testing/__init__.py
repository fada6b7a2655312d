"""The conformance kit: the contract as tests of any backend (docs/conformance.md).

The whole test file of a backend:

```python
from streaming_queue.testing import BackendContract
from my_package import MyCommBackend


class TestMine(BackendContract):
    backend_class = MyCommBackend
```

The import needs the extra `testing`; without the extra, it raises BackendNotInstalledError.
"""

from __future__ import annotations

from streaming_queue.errors import BackendNotInstalledError
from streaming_queue.extras import install_command

try:
    import pytest  # noqa: F401 (checks that it is installed)
    import pytest_asyncio  # noqa: F401
except ModuleNotFoundError as error:
    raise BackendNotInstalledError(
        f"streaming_queue.testing needs {error.name!r}: {install_command('testing')}"
    ) from error

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
