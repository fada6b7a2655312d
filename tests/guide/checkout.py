"""A copy of the checkout, into which a test puts files as a person would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).parent / "toy"


@dataclass(frozen=True)
class Checkout:
    """`run` and `start` use the interpreter of the tests; the package is the copy's."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> Checkout:
        for name in ("src", "script"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        return cls(root)

    def put(self, source: Path, folder: str) -> None:
        """Put a file into a folder below `script/streaming_queue`, which is made where it is missing."""
        target = self.root / "script" / "streaming_queue" / folder
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    def put_toy(self) -> None:
        """The guide's own backend, at the guide's own paths."""
        for name in ("comm.py", "coordinator.py", "worker.py", "serve_toy.py"):
            self.put(TOY / name, "protocol_backend/toy")
        for name in ("run_toy.py", "run_toy_external.py"):
            self.put(TOY / name, "runner")
        shutil.copy(TOY.parent / "config.yaml", self.root)

    def _how(self, directory: Path | None) -> dict[str, Any]:
        environment = {**os.environ, "PYTHONPATH": str(self.root / "src"), "NO_COLOR": "1"}
        return {"cwd": directory or self.root, "env": environment, "text": True, "stdout": subprocess.PIPE}

    def run(self, *arguments: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS`."""
        command = [sys.executable, *arguments]
        return subprocess.run(command, **self._how(directory), stderr=subprocess.PIPE, timeout=100, check=False)

    def stq(self, *arguments: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run `stq ARGUMENTS`."""
        return self.run("-m", "streaming_queue.cli", *arguments, directory=directory)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `python ARGUMENTS`, to be read from and written to."""
        return subprocess.Popen([sys.executable, *arguments], **self._how(None), stdin=subprocess.PIPE)
