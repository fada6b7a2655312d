"""`stq dlq`: the questions that failed for good (dead letters)."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streaming_queue.cli import completion
from streaming_queue.cli.help import epilog
from streaming_queue.cli.options import AsJson, RunPath, Trust
from streaming_queue.cli.steer import on_run
from streaming_queue.cli.text import columns, echo, print_json
from streaming_queue.errors import ConfigError
from streaming_queue.telemetry.text import NONE, one_line

if TYPE_CHECKING:
    from pathlib import Path

    from streaming_queue.control.base import RunControl

PAGE = "docs/control.md"

app = typer.Typer(name="dlq", help="List, show, replay or purge dead letters.", rich_markup_mode=None)

_MESSAGE = 80
"""Characters of a failure's message in the table."""

Reason = Annotated[
    str | None,
    typer.Option(
        "--reason",
        metavar="TYPE",
        help="Only those with this type of failure, e.g. ConnectError.",
        autocompletion=completion.reasons,
    ),
]
Ids = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="Only the question with this id; may be repeated.")
]


@app.command("list", epilog=epilog("stq dlq list runs/first", PAGE))
def list_(
    directory: RunPath,
    reason: Reason = None,
    limit: Annotated[int, typer.Option("--limit", help="Number of dead letters, up to 1000.")] = 50,
    after: Annotated[int, typer.Option("--after", metavar="CURSOR", help="Start after this position.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Print the dead letters, oldest first, a page at a time."""
    page = on_run(directory, lambda run: run.dead_letters(reason=reason, after=after, limit=limit))
    if as_json:
        print_json(page)
        return
    letters = page["dead_letters"]
    rows = [("ID", "REASON", "WORKER", "ATTEMPTS", "WHEN", "MESSAGE")]
    rows += [
        (
            letter["question_id"],
            letter["reason"],
            letter["worker"] or NONE,
            str(letter["attempts"]),
            letter["timestamp"],
            one_line(letter["message"], _MESSAGE),
        )
        for letter in letters
    ]
    if letters:
        echo(columns(rows))
    echo(f"{len(letters):,} of {page['total']:,} dead letters")
    if page["next"] is not None:
        chosen = ["--reason", reason] if reason else []
        more = ["stq", "dlq", "list", str(directory), *chosen, "--limit", str(limit), "--after", str(page["next"])]
        echo(one_line(f"next page: {shlex.join(more)}"))


@app.command(epilog=epilog("stq dlq show runs/first q17", PAGE))
def show(
    directory: RunPath,
    question_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the question.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Print one dead letter in full, with its attempts."""
    letter = on_run(directory, lambda run: run.dead_letter(question_id))
    if as_json:
        print_json(letter)
        return
    keys = ("question_id", "reason", "message", "worker", "protocol", "attempts", "timestamp", "question", "reference")
    width = max(map(len, keys))
    for key in keys:
        echo(f"{key.ljust(width)}  {full_text(letter[key], ' ' * (width + 2))}")
    rows = [("ATTEMPT", "OUTCOME", "WORKER", "ENDED", "ERROR")]
    rows += [
        (
            str(attempt["attempt"]),
            attempt["outcome"],
            attempt["worker"] or NONE,
            attempt["ended"],
            "{type}: {message}".format_map(attempt["error"]) if attempt["error"] else NONE,
        )
        for attempt in letter["history"]
    ]
    echo(f"\n{columns(rows)}")


@app.command(epilog=epilog("stq dlq replay runs/first --reason ConnectError", PAGE))
def replay(
    directory: RunPath, reason: Reason = None, ids: Ids = None, trust: Trust = False, as_json: AsJson = False
) -> None:
    """Put dead letters back: all, or those chosen.

    A run that goes on asks them at once. A stopped run asks them when it is resumed.
    """
    count, live = _act("replayed", directory, reason, ids, trust=trust, as_json=as_json)
    then = "the run asks them again now" if live else f"`stq resume {directory}` asks them again"
    if not as_json:
        echo(one_line(f"{count:,} put back; {then}" if count else "nothing to put back: no such dead letters"))


@app.command(epilog=epilog("stq dlq purge runs/first --yes", PAGE))
def purge(
    directory: RunPath,
    reason: Reason = None,
    ids: Ids = None,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm that they are deleted for good.")] = False,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters: all, or those chosen."""
    if not yes:
        raise ConfigError("purge deletes questions for good; --yes confirms it, `stq dlq list` shows the questions")
    count, _ = _act("purged", directory, reason, ids, trust=trust, as_json=as_json)
    if not as_json:
        echo(f"{count:,} deleted" if count else "nothing to delete: no such dead letters")


def _act(
    done: Literal["replayed", "purged"],
    directory: Path,
    reason: str | None,
    ids: list[str] | None,
    *,
    trust: bool,
    as_json: bool,
) -> tuple[int, bool]:
    """Replay or purge dead letters; return their number and whether the run goes on. With `as_json` print both.

    Raises ConfigError if one of `ids` is not a dead letter.
    """

    async def action(run: RunControl) -> tuple[int, bool]:
        act = run.replay if done == "replayed" else run.purge
        return await act(ids=ids or None, reason=reason), run.live

    count, live = on_run(directory, action, trust=trust)
    if ids and count < (wanted := len(set(ids))):
        raise ConfigError(
            f"done for {count} of {wanted} questions: the others are not such dead letters; "
            f"`stq dlq list {directory}` lists all dead letters"
        )
    if as_json:
        print_json({done: count, "live": live})
    return count, live


def full_text(value: Any, indent: str) -> str:
    """A value in full, its line breaks kept and indented."""
    return NONE if value is None else str(value).replace("\n", f"\n{indent}")
