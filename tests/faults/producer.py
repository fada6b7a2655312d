"""Who writes questions into the standard input of a run."""

from __future__ import annotations

import select
import subprocess
import threading
from contextlib import suppress

PAD = "x" * 1000


class Producer:
    """Writes questions into a pipe for as long as it is read, or until `stop`; `written` says how many."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        self.written = 0
        self._stopping = False
        self._pipe, process.stdin = process.stdin, None  # not `communicate`'s to close
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        with suppress(BrokenPipeError), self._pipe:
            while not self._stopping:
                self._pipe.write(f'{{"id": "q{self.written}", "question": "What is {self.written} + 1? {PAD}"}}\n')
                self.written += 1

    @property
    def has_to_wait(self) -> bool:
        """Whether nothing was taken out of the pipe for a second."""
        return not select.select([], [self._pipe], [], 1.0)[1]

    def stop(self) -> int:
        """End the questions; how many there were."""
        self._stopping = True
        self._thread.join(60)
        return self.written
