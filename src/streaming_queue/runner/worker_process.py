"""The process behind `processes.WorkerProcess`: `python -m streaming_queue.runner.worker_process`.

It reads one line of JSON from standard input (`config`, `agent_id`, `host`, `port`) and writes one to standard output:
`{"ready": address}`, or `{"error": ...}` as in `errors.error_event`. Standard input ends with the owner, and the worker
ends with it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import orjson

from streaming_queue.config import Config
from streaming_queue.errors import StreamingQueueError, error_event
from streaming_queue.runner.backends import create_backend
from streaming_queue.runner.event_loop import run_fast
from streaming_queue.runner.serving import serve_worker
from streaming_queue.telemetry.console import Output
from streaming_queue.telemetry.log_lines import LogLines, log_to


def _emit(**message: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(message) + b"\n")
    sys.stdout.buffer.flush()


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
    order = orjson.loads(sys.stdin.buffer.readline())
    try:
        return run_fast(_work(order))
    except StreamingQueueError as error:
        _emit(error=error_event(error))
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
