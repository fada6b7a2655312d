"""A real `nats-server` that a test configures, kills and starts again."""

from __future__ import annotations

import signal
import subprocess
import sysconfig
from pathlib import Path
from typing import Self

PROGRAM = Path(sysconfig.get_path("scripts")) / "nats-server"


class NatsServer:
    def __init__(self, directory: Path, configuration: str = "") -> None:
        self._configuration = directory / "server.conf"
        self._configuration.write_text(configuration)
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, on the port of before; returns when it is ready."""
        command = [PROGRAM, "-a", "127.0.0.1", "-p", str(self.port or -1), "-c", self._configuration]
        self.process: subprocess.Popen[str] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "Listening for client connections" in line:
                self.port = int(line.rpartition(":")[2])
            if "Server is ready" in line:
                return
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """End it at once; idempotent."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
