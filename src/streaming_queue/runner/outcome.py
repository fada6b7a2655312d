"""The end of a run, as a message and an exit code."""

from __future__ import annotations

from collections.abc import Mapping

from streaming_queue.errors import ProtocolError, error_from_event
from streaming_queue.exit_codes import ExitCode, exit_code
from streaming_queue.messages import ReplyMetadata
from streaming_queue.telemetry.console import Output


def conclude(figures: ReplyMetadata, output: Output, *, signal_number: int | None = None) -> int:
    """Report how a run ended, by the coordinator's figures. Return the exit code (`exit_codes`).

    `signal_number` is the signal that ended the run, if there was one.
    """
    state, failed, total = figures["state"], figures.get("failed", 0), figures.get("total", 0)
    event = figures.get("error")
    error = error_from_event(event) if isinstance(event, Mapping) else None
    counted = f"{figures.get('done', 0)} of {total} questions answered, {failed} failed"
    if state == "done":
        (output.warning if failed else output.success)(f"{counted}: {figures.get('directory', '')}")
        return ExitCode.SOME_FAILED if failed else ExitCode.OK
    if error is not None:
        output.error(str(error))
    if state == "stopped":
        output.warning(f"stopped, {counted}; go on with: stq resume {figures.get('directory')}")
    if signal_number is not None and error is None:
        return 128 + signal_number
    if state == "stopped" and error is None:
        return ExitCode.STOPPED
    return exit_code(error or ProtocolError(f"the coordinator's run is {state}"))
