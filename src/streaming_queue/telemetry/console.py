"""What people see of a run: coloured messages, a live display or plain lines, a table at the end."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Self

from streaming_queue.masking import masked
from streaming_queue.telemetry.events import (
    Answered,
    Buried,
    Continued,
    Event,
    IntakeFinished,
    Notice,
    Paused,
    Purged,
    Replayed,
    RoundFinished,
    RoundStarted,
    Sent,
    WorkerDown,
    WorkerJoined,
    WorkerLeft,
    WorkerUp,
)
from streaming_queue.telemetry.progress import Progress
from streaming_queue.telemetry.streams import SafeStream
from streaming_queue.telemetry.text import duration, lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

FRAME_S = 0.25
PLAIN_S = 5.0
_MOST_FAILURES = 10
_ONLY_COUNTED = frozenset({Answered, Sent})
_STYLES = {
    "INFO": "cyan",
    "SUCCESS": "green",
    "WARNING": "yellow",
    "ERROR": "bold red",
    "PROGRESS": "blue",
    "SYSTEM": "magenta",
}


def _colour(stream: SafeStream) -> bool:
    """Whether escape codes are welcome: https://no-color.org and https://force-color.org."""
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

    It is plain text where the stream is no terminal or NO_COLOR is set. A stream that is closed is no error.
    """
    _print_summary(summary, SafeStream(stream or sys.stdout))


def _print_summary(summary: Mapping[str, Any], stream: SafeStream) -> None:
    if stream.broken:
        return
    from streaming_queue.telemetry.summary_table import SummaryView

    _console(stream).print(SummaryView(summary))
    stream.flush()


class Output:
    """The runner's `output` (the guide's word): messages, and as a listener (`output(event)`) the whole show.

    Messages and progress go to standard error, the table of a finished round to standard output. On a terminal the
    round is shown live, at most four frames a second; elsewhere, and under NO_COLOR, by one plain line every five
    seconds, without escape codes. Text is never interpreted: control characters are shown as their escapes. Streams
    that are closed or break are given up silently; the run goes on.

    `quiet` leaves warnings and errors only. `json_lines` says that standard output carries JSON Lines: no table is
    printed there, and nothing is drawn live if it is a terminal. Call everything from one thread; `close` when done.
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
        self.progress_state = Progress(clock)
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
        """Say what happens."""
        self._say("INFO", text)

    def success(self, text: object) -> None:
        """Say what went well."""
        self._say("SUCCESS", text)

    def warning(self, text: object) -> None:
        """Say what a person should look at."""
        self._say("WARNING", text, always=True)

    def error(self, text: object) -> None:
        """Say what went wrong."""
        self._say("ERROR", text, always=True)

    def progress(self, text: object) -> None:
        """Say how far it is."""
        self._say("PROGRESS", text)

    def system(self, text: object) -> None:
        """Say what the program itself does: starting, stopping."""
        self._say("SYSTEM", text)

    def render_summary(self, summary: Mapping[str, Any]) -> None:
        """Print the table of a summary to standard output, unless that is quiet or carries JSON Lines."""
        self._stop_display()
        if not self.quiet and not self._json_lines:
            _print_summary(summary, self._stdout)

    def __call__(self, event: Event) -> None:
        """Take an event: count it, and say what is worth a line."""
        self.progress_state.apply(event)
        if type(event) in _ONLY_COUNTED:
            return
        if isinstance(event, RoundStarted):
            self._on_started(event)
        elif isinstance(event, RoundFinished):
            self._on_finished(event)
        else:
            self._on_remarkable(event)

    def prepare(self) -> None:
        """Load what drawing needs, so that the first message does not; blocks, so call it outside of the event loop."""
        if not self.quiet:
            import_module("streaming_queue.telemetry.safe_console")
            import_module("streaming_queue.telemetry.live")
            import_module("streaming_queue.telemetry.summary_table")

    def close(self) -> None:
        """Take the display down; idempotent. Messages still work."""
        self._stop_display()
        self._stream.flush()

    def _on_started(self, event: RoundStarted) -> None:
        self._failures = 0
        counts = event.counts
        what = f"{event.concurrency} at a time over {len(event.workers)} workers"
        if event.resumed:
            self.system(
                f"round {event.round_id} goes on: {counts.done + counts.dead:,} of {counts.total:,} done, {what}"
            )
        else:
            self.system(f"round {event.round_id} starts: {what}")
        self._stop_display()
        if not self.quiet and not self._stream.broken:
            self._display = self._live_display() if self._is_live() else self._plain_display()

    def _on_finished(self, event: RoundFinished) -> None:
        self._stop_display()
        counts, took = event.counts, duration(self.progress_state.elapsed_s)
        text = f"round {event.state}: {counts.done:,} answered, {counts.dead:,} failed of {counts.total:,} in {took}"
        if event.state == "done":
            (self.warning if counts.dead else self.success)(text)
        else:
            self.warning(f"{text}, {counts.open:,} not asked")
        if "timings" in event.summary:
            self.render_summary(event.summary)

    def _on_remarkable(self, event: Event) -> None:
        if isinstance(event, Notice):
            say = {"warning": self.warning, "error": self.error}.get(event.level, self.info)
            say(event.text)
        elif isinstance(event, IntakeFinished):
            skipped = f", {event.skipped:,} unusable lines skipped" if event.skipped else ""
            known = f", {event.duplicates:,} known already" if event.duplicates else ""
            self.info(f"read {event.questions:,} questions{skipped}{known}")
        elif isinstance(event, Buried):
            self._on_buried(event)
        elif isinstance(event, Paused | Continued | Replayed | Purged):
            self._on_steered(event)
        elif isinstance(event, WorkerDown):
            end = "; it will not be asked again in this round" if event.final else ""
            self.warning(f"{event.worker} is down: {event.reason}{end}")
        elif isinstance(event, WorkerUp):
            self.success(f"{event.worker} is up")
        elif isinstance(event, WorkerJoined):
            self.success(f"{event.worker} takes part from now on")
        elif isinstance(event, WorkerLeft):
            self.info(f"{event.worker} takes part no longer")

    def _on_steered(self, event: Paused | Continued | Replayed | Purged) -> None:
        if isinstance(event, Paused):
            self.warning(f"paused: what is in flight ends; `stq resume {event.directory}` goes on")
        elif isinstance(event, Continued):
            self.success("no longer paused")
        elif isinstance(event, Replayed):
            self.info(f"{event.count:,} failed questions are asked again")
        else:
            self.warning(f"{event.count:,} failed questions were deleted")

    def _on_buried(self, event: Buried) -> None:
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

    def _say(self, level: str, text: object, *, always: bool = False) -> None:
        if (self.quiet and not always) or self._stream.broken:
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
        live: list[Live] = []

        def show() -> None:
            if not live:
                from rich.live import Live

                from streaming_queue.telemetry.live import LiveView

                view = LiveView(self.progress_state)
                live.append(Live(view, console=self._rich(), auto_refresh=False, transient=True, redirect_stdout=False))
                live[0].start()
            self.progress_state.sample()
            live[0].refresh()

        def end() -> None:
            for shown in live:
                shown.stop()

        return _Display(FRAME_S, show, end)

    def _plain_display(self) -> _Display:
        return _Display(PLAIN_S, self.plain_line, lambda: None)

    def plain_line(self) -> None:
        """Print the state of the round in one line."""
        self.progress_state.sample()
        self.progress(self.progress_state.line())

    def _stop_display(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None


class _Display:
    """Calls `show` every `interval_s` in a thread of its own, so that drawing never holds up the event loop.

    `stopped` is also the clock: the thread waits on it between two calls.
    """

    def __init__(
        self,
        interval_s: float,
        show: Callable[[], None],
        end: Callable[[], None],
        stopped: threading.Event | None = None,
    ) -> None:
        self._show = show
        self._end = end
        self._interval_s = interval_s
        self._stopped = stopped or threading.Event()
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="streaming-queue-display", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Draw no more, and tidy up. The thread ends by itself at once."""
        self._stopped.set()
        with self._lock:
            self._end()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            with self._lock:
                if not self._stopped.is_set():
                    self._show()
