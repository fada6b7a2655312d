"""A run on the screen: coloured messages, a live display or plain lines, a table at the end."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Self

from streaming_queue.masking import masked
from streaming_queue.telemetry import events
from streaming_queue.telemetry.events import Event
from streaming_queue.telemetry.progress import RunProgress
from streaming_queue.telemetry.streams import SafeStream
from streaming_queue.telemetry.text import duration, lines

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

FRAME_S = 0.25
PLAIN_S = 5.0
_MOST_FAILURES = 10
_ONLY_COUNTED = frozenset({events.Answered, events.Sent})
_STYLES = {
    "INFO": "cyan",
    "SUCCESS": "green",
    "WARNING": "yellow",
    "ERROR": "bold red",
    "PROGRESS": "blue",
    "SYSTEM": "magenta",
}
_LINES: Mapping[type[Event], tuple[str, str]] = {
    events.Paused: ("WARNING", "paused: questions in flight end; `stq resume {0.directory}` goes on"),
    events.Continued: ("SUCCESS", "no longer paused"),
    events.Waiting: ("WARNING", "{0.text}"),
    events.WaitOver: ("SUCCESS", "no longer waiting"),
    events.Replayed: ("INFO", "{0.count:,} failed questions are asked again"),
    events.Purged: ("WARNING", "{0.count:,} failed questions were deleted"),
    events.WorkerUp: ("SUCCESS", "{0.worker} is up"),
    events.WorkerJoined: ("SUCCESS", "{0.worker} joined the run"),
    events.WorkerLeft: ("INFO", "{0.worker} left the run"),
}
"""Level and text of events that are one plain line."""


def _colour(stream: SafeStream) -> bool:
    """Whether to write escape codes: https://no-color.org and https://force-color.org."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown"):
        return False
    return stream.isatty() or bool(os.environ.get("FORCE_COLOR"))


def _console(stream: SafeStream) -> Console:
    from streaming_queue.telemetry.safe_console import SafeConsole

    styled = _colour(stream)
    return SafeConsole(
        file=stream,  # type: ignore[arg-type]  # rich uses write, flush, isatty, fileno and encoding
        force_terminal=styled,
        force_jupyter=False,
        color_system="auto" if styled else None,
        no_color=not styled,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=False,
        width=None if stream.isatty() else 104,
    )


def render_summary(summary: Mapping[str, Any], stream: IO[str] | None = None) -> None:
    """Print the table of a summary (`report.summary.write_results`) to `stream`, by default standard output.

    It is plain text if the stream is not a terminal or NO_COLOR is set. A closed stream is not an error.
    """
    _print_summary(summary, SafeStream(stream or sys.stdout))


def _print_summary(summary: Mapping[str, Any], stream: SafeStream) -> None:
    if stream.broken:
        return
    from streaming_queue.telemetry.summary_table import SummaryView

    _console(stream).print(SummaryView(summary))
    stream.flush()


class Output:
    """The runner's `output` (the guide's word). It prints messages, and as a listener (`output(event)`) a whole run.

    Messages and progress go to standard error, the table of a finished run to standard output. A terminal shows the
    run live, with at most four frames a second. Other streams, and terminals under NO_COLOR, get one plain line every
    five seconds, without escape codes. Control characters in texts appear as their escapes. After a failed write to a
    stream, the rest of its text is dropped and the run goes on.

    `quiet` prints warnings and errors only. `json_lines` says that standard output carries JSON Lines: then no table
    goes there, and there is no live display if it is a terminal. Call it from one thread, and `close` it at the end.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        json_lines: bool = False,
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stdout` and `stderr` default to the process's own; `clock` is monotonic, in seconds."""
        self.quiet = quiet
        self.progress_state = RunProgress(clock)
        self._json_lines = json_lines
        self._stdout = SafeStream(stdout or sys.stdout)
        self._stream = SafeStream(stderr or sys.stderr)
        self._clock = clock
        self._console: Console | None = None
        self._display: _Display | None = None
        self._failures = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def info(self, text: object) -> None:
        """Print a message."""
        self._say("INFO", text)

    def success(self, text: object) -> None:
        """Print a success."""
        self._say("SUCCESS", text)

    def warning(self, text: object) -> None:
        """Print a warning, even if quiet."""
        self._say("WARNING", text)

    def error(self, text: object) -> None:
        """Print an error, even if quiet."""
        self._say("ERROR", text)

    def progress(self, text: object) -> None:
        """Print the progress of the run."""
        self._say("PROGRESS", text)

    def system(self, text: object) -> None:
        """Print what the program does: start, stop."""
        self._say("SYSTEM", text)

    def render_summary(self, summary: Mapping[str, Any]) -> None:
        """Print the table of a summary to standard output; not if quiet, and not among JSON Lines."""
        self._stop_display()
        if not self.quiet and not self._json_lines:
            _print_summary(summary, self._stdout)

    def __call__(self, event: Event) -> None:
        """Count an event, and print its line if it has one."""
        self.progress_state.apply(event)
        if type(event) in _ONLY_COUNTED:
            return
        match event:
            case events.RunStarted():
                self._on_started(event)
            case events.RunFinished():
                self._on_finished(event)
            case events.DeadLettered():
                self._on_dead_letter(event)
            case events.Notice():
                self._say({"warning": "WARNING", "error": "ERROR"}.get(event.level, "INFO"), event.text)
            case events.IntakeFinished():
                skipped = f", {event.skipped:,} unusable lines skipped" if event.skipped else ""
                known = f", {event.duplicates:,} known already" if event.duplicates else ""
                self.info(f"read {event.questions:,} questions{skipped}{known}")
            case events.WorkerDown():
                end = "; it will not be asked again in this run" if event.final else ""
                self.warning(f"{event.worker} is down: {event.reason}{end}")
            case _ if line := _LINES.get(type(event)):
                self._say(line[0], line[1].format(event))

    def prepare(self) -> None:
        """Import the drawing library before the first message needs it. Blocks: call it outside of the event loop."""
        if not self.quiet:
            import_module("streaming_queue.telemetry.safe_console")
            import_module("streaming_queue.telemetry.live")
            import_module("streaming_queue.telemetry.summary_table")

    def close(self) -> None:
        """Stop the display; idempotent. Messages still work."""
        self._stop_display()
        self._stream.flush()

    def _on_started(self, event: events.RunStarted) -> None:
        self._failures = 0
        counts = event.counts
        what = f"{event.concurrency} at a time over {len(event.workers)} workers"
        if event.resumed:
            self.system(f"run {event.run_id} goes on: {counts.done + counts.dead:,} of {counts.total:,} done, {what}")
        else:
            self.system(f"run {event.run_id} starts: {what}")
        self._stop_display()
        if not self.quiet and not self._stream.broken:
            is_live = self._is_live()
            self._display = self._live_display() if is_live else _Display(PLAIN_S, self.plain_line, lambda: None)

    def _on_finished(self, event: events.RunFinished) -> None:
        self._stop_display()
        counts, took = event.counts, duration(self.progress_state.elapsed_s)
        text = f"run {event.state}: {counts.done:,} answered, {counts.dead:,} failed of {counts.total:,} in {took}"
        if event.state == "done":
            (self.warning if counts.dead else self.success)(text)
        else:
            self.warning(f"{text}, {counts.open:,} not asked")
        if "timings" in event.summary:
            self.render_summary(event.summary)

    def _on_dead_letter(self, event: events.DeadLettered) -> None:
        self._failures += 1
        if self._failures <= _MOST_FAILURES:
            failure = event.failure
            where = f" ({failure.worker})" if failure.worker else ""
            self.error(
                f"question {event.question_id} failed after {event.attempt} attempts{where}: "
                f"{failure.type}: {failure.message}"
            )
        if self._failures == _MOST_FAILURES:
            self.warning("further failed questions are counted, not shown; results.jsonl has them all")

    def _say(self, level: str, text: object) -> None:
        if (self.quiet and level not in ("WARNING", "ERROR")) or self._stream.broken:
            return
        prefix = f"[{level}] "
        shown = lines(masked(str(text)), " " * len(prefix))
        if not _colour(self._stream):
            self._stream.write(f"{prefix}{shown}\n")
            self._stream.flush()
            return
        from rich.text import Text

        console = self._rich()
        console.print(Text.assemble((f"[{level}]", _STYLES[level]), " ", shown), soft_wrap=True)
        self._stream.flush()

    def _rich(self) -> Console:
        if self._console is None:
            self._console = _console(self._stream)
        return self._console

    def _is_live(self) -> bool:
        if self._json_lines and self._stdout.isatty():
            return False
        return self._stream.isatty() and _colour(self._stream) and self._stream.encoding.lower().startswith("utf")

    def _live_display(self) -> _Display:
        live: Live | None = None

        def show() -> None:
            nonlocal live
            if live is None:
                from rich.live import Live

                from streaming_queue.telemetry.live import LiveView

                view = LiveView(self.progress_state)
                live = Live(view, console=self._rich(), auto_refresh=False, transient=True, redirect_stdout=False)
                live.start()
            self.progress_state.sample()
            live.refresh()

        def end() -> None:
            if live is not None:
                live.stop()

        return _Display(FRAME_S, show, end)

    def plain_line(self) -> None:
        """Print the state of the run in one line."""
        self.progress_state.sample()
        self.progress(self.progress_state.line())

    def _stop_display(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None


class _Display:
    """Calls `show` every `interval_s` in a thread of its own, so that drawing never delays the event loop."""

    def __init__(self, interval_s: float, show: Callable[[], None], end: Callable[[], None]) -> None:
        self._show = show
        self._end = end
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="streaming-queue-display", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop drawing and clear the display. The thread ends at once."""
        self._stopped.set()
        with self._lock:
            self._end()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            with self._lock:
                if self._stopped.is_set():
                    return
                try:
                    self._show()
                except Exception as error:  # the terminal went away; the run goes on without a picture
                    logger.warning("the display ended: %r", error)
                    return
