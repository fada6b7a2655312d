"""`stq ask`, and the older `status`, `dispatch` and `attach`: commands for an agent at an address."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from streaming_queue.cli.options import AsJson, ProtocolName, Sets
from streaming_queue.cli.text import echo, echo_answer
from streaming_queue.telemetry.text import one_line

if TYPE_CHECKING:
    from streaming_queue.config import Config
    from streaming_queue.telemetry.console import Output

T = TypeVar("T")

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of the agent.", show_default=False)]


def ask(
    address: Address,
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="The question; - reads standard input.", show_default=False)
    ],
    protocol: ProtocolName = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer in pieces, as it arrives.")] = False,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Get the answer to the question asked with this key.")
    ] = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Ask an agent one question and print its answer."""
    from streaming_queue.messages import DELTA
    from streaming_queue.runner import remote
    from streaming_queue.telemetry.console import Output
    from streaming_queue.telemetry.json_lines import JsonLines

    text = sys.stdin.read().strip() if question == "-" else question
    output = Output(json_lines=as_json)
    own_key = key or remote.new_key()
    pieces: list[str] = []

    def show(kind: str, piece: str) -> None:
        if kind == DELTA:
            pieces.append(piece)
            echo_answer(piece, nl=False)
        else:
            output.info(piece)

    def slow() -> None:
        output.info(f"no answer yet; after an interruption, the same command with --key {own_key} gets the answer")

    streamed = show if stream and not as_json else None
    reply = _run(remote.ask(_config(protocol, sets), address, text, key=own_key, show=streamed, slow=slow))
    if as_json:
        JsonLines().record({"text": reply["text"], "metadata": reply.get("metadata")})
    elif not pieces:
        echo_answer(reply["text"])
    else:  # the pieces are the answer, unless the agent started it again
        echo_answer("" if "".join(pieces) == reply["text"] else f"\n{reply['text']}")


def status(address: Address, protocol: ProtocolName = None, sets: Sets = None, as_json: AsJson = False) -> None:
    """Print the status of an agent."""
    from streaming_queue.runner import remote
    from streaming_queue.telemetry.json_lines import JsonLines

    reply = _run(remote.status(_config(protocol, sets), address))
    if as_json:
        JsonLines().record({"status": reply["text"], **(reply.get("metadata") or {})})
    else:
        echo(one_line(reply["text"]))


def dispatch(
    address: Address,
    protocol: ProtocolName = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the run to its end.")] = False,
    sets: Sets = None,
    as_json: AsJson = False,
) -> int:
    """Dispatch: a coordinator starts its run.

    With --follow the exit code is that of the run. Ctrl-C ends this command, not the run.
    """
    from streaming_queue.runner import remote

    output, ended = _outputs(as_json)
    return _run(remote.dispatch(_config(protocol, sets), address, output, follow=follow, ended=ended))


def attach(address: Address, protocol: ProtocolName = None, sets: Sets = None, as_json: AsJson = False) -> int:
    """Follow the run of a coordinator, or show how it ended.

    The exit code is that of the run. Ctrl-C ends this command, not the run.
    """
    from streaming_queue.runner import remote

    output, ended = _outputs(as_json)
    return _run(remote.attach(_config(protocol, sets), address, output, ended=ended))


def _config(protocol: str | None, sets: list[str] | None) -> Config:
    from streaming_queue.config import load_config

    return load_config(flags={"protocol": protocol}, sets=sets or ())


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    from streaming_queue.runner.event_loop import run_fast

    return run_fast(coroutine)


def _outputs(as_json: bool) -> tuple[Output, Callable[[Mapping[str, Any]], None]]:
    """The output for messages, and the function that prints the summary of a run."""
    from streaming_queue.telemetry.console import Output
    from streaming_queue.telemetry.json_lines import JsonLines

    output = Output(json_lines=as_json)
    return output, JsonLines().summary if as_json else output.render_summary
