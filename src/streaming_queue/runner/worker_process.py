"""The process behind `processes.WorkerProcess`: `python -m streaming_queue.runner.worker_process`.

It reads one line of JSON from standard input (`config`, `agent_id`, `host`, `port`) and writes one to standard output:
`{"ready": address}`, or `{"error": ...}` as in `errors.error_event`. Standard input ends with the owner, and the worker
ends with it.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import orjson

from streaming_queue.config import Config
from streaming_queue.errors import StreamingQueueError, error_event
from streaming_queue.exit_codes import ExitCode
from streaming_queue.runner.backends import create_backend
from streaming_queue.runner.event_loop import run_fast
from streaming_queue.runner.serving import serve_worker
from streaming_queue.runner.watchdog import end_process
from streaming_queue.telemetry.console import Output
from streaming_queue.telemetry.log_lines import LogLines, log_to

LATE_S = 30.0
"""The process ends so many seconds after its owner at the latest, whatever hangs in it."""


def _emit(**message: Any) -> None:
    """Write to the owner. If the owner died, the message is lost, and the process ends with its standard input."""
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), orjson.dumps(message) + b"\n")


def _end_with_owner() -> None:
    """Wait in a thread for the owner's end: an event loop that hangs would not notice it."""
    gone = select.poll()
    gone.register(sys.stdin.fileno(), 0)  # only its end
    gone.poll()
    time.sleep(LATE_S)
    end_process(ExitCode.STOPPED)


async def _work(order: dict[str, Any]) -> int:
    config = Config.of(order["config"])
    owner = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(owner), sys.stdin)
    return await serve_worker(
        config,
        create_backend(config),
        agent_id=order["agent_id"],
        host=order["host"],
        port=order["port"],
        output=Output(quiet=True),
        ready=lambda address: _emit(ready=address),
        until=asyncio.ensure_future(owner.read()),
        drain_s=0.0,
    )


def main() -> int:
    """Work until the owner ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends Ctrl-C to the whole group; the owner drains first
    log_to(LogLines())
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return ExitCode.STOPPED  # the owner died before it had written the order
    order = orjson.loads(line)
    threading.Thread(target=_end_with_owner, name="owner", daemon=True).start()
    try:
        return run_fast(_work(order))
    except StreamingQueueError as error:
        _emit(error=error_event(error))
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
