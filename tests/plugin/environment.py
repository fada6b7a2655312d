"""A virtual environment to install into: what can be imported here can be imported there."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """`bin` has the commands `python`, `pip`, `pytest` and `stq`, of this environment."""

    bin: Path

    @classmethod
    def create(cls, directory: Path) -> Environment:
        venv.create(directory, symlinks=True, with_pip=False)
        environment = cls(directory / "bin")
        python = environment.bin / "python"
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
        here = [str(Path(entry).absolute()) for entry in sys.path if entry and Path(entry).is_dir()]
        (packages / "here.pth").write_text("\n".join(here) + "\n")
        for name, module in (("stq", "streaming_queue.cli"), ("pytest", "pytest")):
            environment.write(name, f'exec "{python}" -m {module} "$@"')
        install = f'shift; exec "{sys.executable}" -m pip --python "{python}" install'
        environment.write("pip", f'{install} --quiet --disable-pip-version-check --no-deps --no-build-isolation "$@"')
        return environment

    def write(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def variables(self) -> dict[str, str]:
        """What a command in this environment is given."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHON"))}
        return {**kept, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}

    def run(self, command: str, directory: Path, *, timeout_s: float = 150) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, cwd=directory, env=self.variables(), capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
