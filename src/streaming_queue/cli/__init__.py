"""The command line: `stq COMMAND`. A command is a function in a module here, and a line in `COMMANDS`.

A command returns its exit code (None: 0) or raises. It imports heavy modules inside, so that `stq --help` stays quick.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer

from streaming_queue.cli import anp, config, dlq, protocol, protocols, serve, steer, workers
from streaming_queue.cli.doctor import doctor
from streaming_queue.cli.failstorm import failstorm
from streaming_queue.cli.help import SectionedGroup, epilog
from streaming_queue.cli.remote import ask, attach, dispatch, status
from streaming_queue.cli.repair import repair
from streaming_queue.cli.results import results
from streaming_queue.cli.resume import resume
from streaming_queue.cli.run import run
from streaming_queue.cli.runs import runs
from streaming_queue.cli.text import echo, print_error, print_traceback
from streaming_queue.cli.top import top
from streaming_queue.errors import StreamingQueueError
from streaming_queue.exit_codes import ExitCode, exit_code
from streaming_queue.system import check_system
from streaming_queue.telemetry.log_lines import LogLines, log_to

__all__ = ["app", "main"]

COMMANDS: tuple[tuple[str, Callable[..., Any] | typer.Typer, str, str], ...] = (
    ("Ask", run, "stq run -q questions.jsonl -o runs/first", "docs/input.md"),
    ("Ask", ask, "stq ask http://127.0.0.1:10001 'What is the capital of France?'", "docs/processes.md"),
    ("Read", runs, "stq runs", "docs/results.md"),
    ("Read", top, "stq top runs/first", "docs/control.md"),
    ("Read", results, "stq results runs/first --format csv > answers.csv", "docs/results.md"),
    ("Steer", steer.pause, "stq pause runs/first", "docs/control.md"),
    ("Steer", resume, "stq resume runs/first", "docs/control.md"),
    ("Steer", steer.stop, "stq stop runs/first --wait", "docs/control.md"),
    ("Steer", dlq.app, "stq dlq replay runs/first --reason ConnectError", "docs/control.md"),
    ("Steer", workers.app, "stq workers list runs/first", "docs/control.md"),
    ("Set up", serve.app, "stq serve worker --port 10001", "docs/processes.md"),
    ("Set up", doctor, "stq doctor runs/first", "docs/doctor.md"),
    ("Set up", config.app, "stq config show config.yaml", "docs/configuration.md"),
    ("Set up", protocol.app, "stq protocol list", "docs/guide/new-backend.md"),
    ("Set up", failstorm, "stq failstorm -p http --cycles 3", "docs/reliability.md"),
)
"""Commands in help: section, function, an example that works, page of the documentation."""
ALIASES: tuple[tuple[Callable[..., Any] | typer.Typer, str, str], ...] = (
    (status, "stq status http://127.0.0.1:10001", "docs/processes.md"),
    (dispatch, "stq dispatch http://127.0.0.1:9998 --follow", "docs/processes.md"),
    (attach, "stq attach http://127.0.0.1:9998", "docs/processes.md"),
    (steer.queue, "stq queue stats runs/first", "docs/control.md"),
    (repair, "stq repair runs/first", "docs/repair.md"),
    (protocols.protocols, "stq protocols", "docs/conformance.md"),
    (anp.app, "stq anp identity new", "docs/protocols/anp.md"),
)
"""Hidden commands: older names that work until 1.0."""

USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""The parser's error for a wrong command line. typer uses its own parser or click's, depending on its version."""

_LAST_STANDARD_DESCRIPTOR = 2

app = typer.Typer(
    name="stq",
    cls=SectionedGroup,
    options_metavar="",
    subcommand_metavar="COMMAND [RUN] [OPTIONS]",
    help="A durable queue in front of LLM agents that speak any protocol.",
    epilog=epilog("stq run -q questions.jsonl -o runs/first", "README.md"),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add(command: Callable[..., Any] | typer.Typer, example: str, page: str, section: str | None) -> None:
    """Add a command to the app; one without a section is hidden."""
    options: dict[str, Any] = {"epilog": epilog(example, page), "hidden": section is None, "rich_help_panel": section}
    options["options_metavar"] = "[OPTIONS]"  # otherwise typer takes the metavar of `app`
    if isinstance(command, typer.Typer):
        SectionedGroup.names.append(str(command.info.name))
        app.add_typer(command, **options)
    else:
        SectionedGroup.names.append(command.__name__)
        app.command(**options)(command)


for _section, _command, _example, _page in COMMANDS:
    _add(_command, _example, _page, _section)
for _command, _example, _page in ALIASES:
    _add(_command, _example, _page, None)


def _version(asked: bool) -> None:
    if asked:
        from streaming_queue import __version__

        echo(f"streaming-queue {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 (its callback acts)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `arguments` (default: those of the process) and exit with a code of `exit_codes`.

    Errors become an exit code and a line on stderr only here; STQ_DEBUG=1 adds the traceback.
    """
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # otherwise gRPC warns about each process that we start
    try:
        _keep_standard_descriptors()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        check_system()
        log_to(LogLines())
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:
        code = _report(error)
        _forget_stdout()
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _keep_standard_descriptors() -> None:
    """Open closed standard streams on the null device. Otherwise a database or a socket would get their descriptors."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD_DESCRIPTOR:
        pass
    os.close(descriptor)


def _report(error: BaseException) -> int:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
        return error.code if isinstance(error.code, int) else ExitCode.OK if error.code is None else ExitCode.INTERNAL
    debug = os.environ.get("STQ_DEBUG", "") not in {"", "0"}
    if debug:
        print_traceback("".join(traceback.format_exception(error)))
    if isinstance(error, BrokenPipeError | SystemExit):  # typer turns the first into the second
        return ExitCode.BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        print_error("interrupted")
        return ExitCode.INTERRUPTED
    if isinstance(error, USAGE_ERROR):
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        print_error(f"{error.format_message().rstrip('.')}{hint}")  # type: ignore[attr-defined]
        return ExitCode.USAGE
    if isinstance(error, StreamingQueueError):
        print_error(str(error) or type(error).__name__, map(str, getattr(error, "effects", ())))
    else:
        remedy = "" if debug else "; STQ_DEBUG=1 shows the traceback"
        print_error(f"unexpected {type(error).__name__}: {error}{remedy}")
    return exit_code(error)


def _forget_stdout() -> None:
    """Discard the buffer of stdout: a second failure at exit would replace the code and the message."""
    stdout = sys.__stdout__
    if stdout is None:
        return
    try:
        stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stdout.fileno())
        os.close(nowhere)
