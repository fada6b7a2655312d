"""`stq ask`, `status`, `dispatch`, `attach`: an agent that runs elsewhere, from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_queue.cli.options import AsJson, ProtocolName, Sets
from streaming_queue.cli.text import echo, echo_answer
from streaming_queue.telemetry.text import one_line

if TYPE_CHECKING:
    from streaming_queue.config import Config
    from streaming_queue.telemetry.console import Output

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="Where the agent is.", show_default=False)]


def ask(
    address: Address,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question; - reads it.", show_default=False)],
    protocol: ProtocolName = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer as it comes.")] = False,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="Come back to the answer that was asked for with this key."),
    ] = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Ask an agent one question and print its answer."""
    from streaming_queue.messages import DELTA
    from streaming_queue.runner import remote
    from streaming_queue.runner.event_loop import run_fast
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

    def still_at_work() -> None:
        output.info(f"still at work; if this ends before it, the same command with --key {own_key} comes back to it")

    streamed = stream and not as_json
    asking = remote.ask(
        _config(protocol, sets), address, text, key=own_key, show=show if streamed else None, slow=still_at_work
    )
    reply = run_fast(asking)
    if as_json:
        JsonLines().record({"text": reply["text"], "metadata": reply.get("metadata")})
    elif not pieces:
        echo_answer(reply["text"])
    else:  # what was streamed is the answer, unless the agent thought again
        echo_answer("" if "".join(pieces) == reply["text"] else f"\n{reply['text']}")


def status(address: Address, protocol: ProtocolName = None, sets: Sets = None, as_json: AsJson = False) -> None:
    """Print the status of an agent."""
    from streaming_queue.runner import remote
    from streaming_queue.runner.event_loop import run_fast
    from streaming_queue.telemetry.json_lines import JsonLines

    reply = run_fast(remote.status(_config(protocol, sets), address))
    if as_json:
        JsonLines().record({"status": reply["text"], **(reply.get("metadata") or {})})
    else:
        echo(one_line(reply["text"]))


def dispatch(
    address: Address,
    protocol: ProtocolName = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the round has ended.")] = False,
    sets: Sets = None,
    as_json: AsJson = False,
) -> int:
    """Dispatch: have a coordinator begin its round, or follow it.

    With --follow the exit code is the round's; leaving ends the following, not the round.
    """
    from streaming_queue.runner import remote
    from streaming_queue.runner.event_loop import run_fast
    from streaming_queue.telemetry.console import Output

    output = Output(json_lines=as_json)
    ended = _ending(output, as_json=as_json)
    return run_fast(remote.dispatch(_config(protocol, sets), address, output, follow=follow, ended=ended))


def attach(address: Address, protocol: ProtocolName = None, sets: Sets = None, as_json: AsJson = False) -> int:
    """Follow the round of a coordinator, or show how it ended.

    The exit code is the round's; leaving ends the following, not the round.
    """
    from streaming_queue.runner import remote
    from streaming_queue.runner.event_loop import run_fast
    from streaming_queue.telemetry.console import Output

    output = Output(json_lines=as_json)
    return run_fast(remote.attach(_config(protocol, sets), address, output, ended=_ending(output, as_json=as_json)))


def _config(protocol: str | None, sets: list[str] | None) -> Config:
    from streaming_queue.config import load_config

    return load_config(flags={"protocol": protocol}, sets=sets or ())


def _ending(output: Output, *, as_json: bool) -> Callable[[Mapping[str, Any]], None]:
    """What to do with a round's summary."""
    from streaming_queue.telemetry.json_lines import JsonLines

    return JsonLines().summary if as_json else output.render_summary
