"""A provider behind the workers that can be down for a while."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

SERVER = Path(__file__).parents[1] / "e2e" / "openai_process.py"


class Provider:
    """An OpenAI-compatible server in a process of its own, with answers that take 0.1 s; `close` ends it."""

    def __init__(self) -> None:
        self._port = 0
        self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def _start(self) -> None:
        command = [sys.executable, str(SERVER), str(self._port), "0.1"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self._port = urlsplit(self._process.stdout.readline().strip()).port or 0

    @contextmanager
    def down(self) -> Iterator[None]:
        """Killed, and started again afterwards, at the same address."""
        self.close()
        yield
        self._start()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=60)
