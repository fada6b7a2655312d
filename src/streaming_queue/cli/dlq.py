"""`stq dlq`: the questions that failed for good, and what becomes of them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_queue.cli import completion
from streaming_queue.cli.help import epilog
from streaming_queue.cli.options import AsJson, RunPath, Trust
from streaming_queue.cli.steering import on_run, print_json
from streaming_queue.cli.text import columns, echo
from streaming_queue.errors import ConfigError
from streaming_queue.telemetry.text import NONE, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
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
        help="Those with this type of failure only, e.g. ConnectError.",
        autocompletion=completion.reasons,
    ),
]
Ids = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="The question with this id only; may be repeated.")
]


@app.command("list", epilog=epilog("stq dlq list runs/first", PAGE))
def list_(
    directory: RunPath,
    reason: Reason = None,
    limit: Annotated[int, typer.Option("--limit", help="How many at the most, up to 1000.")] = 50,
    after: Annotated[int, typer.Option("--after", metavar="NUMBER", help="Go on after this one.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Print the dead letters, oldest first, a page at a time."""

    async def ask(run: RunControl) -> Mapping[str, Any]:
        return await run.dead_letters(reason=reason, after=after, limit=limit)

    page = on_run(directory, ask)
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
        echo(one_line(f"the next: {shlex.join(more)}"))


@app.command(epilog=epilog("stq dlq show runs/first q17", PAGE))
def show(
    directory: RunPath,
    question_id: Annotated[str, typer.Argument(metavar="ID", help="The question's id.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Print one dead letter in full, with its attempts."""

    async def ask(run: RunControl) -> Mapping[str, Any]:
        return await run.dead_letter(question_id)

    letter = on_run(directory, ask)
    if as_json:
        print_json(letter)
        return
    keys = ("question_id", "reason", "message", "worker", "protocol", "attempts", "timestamp", "question", "reference")
    width = max(map(len, keys))
    for key in keys:
        echo(f"{key.ljust(width)}  {_text(letter[key], ' ' * (width + 2))}")
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

    A run that goes on asks them at once; another one asks them when it is resumed.
    """

    async def command(run: RunControl) -> tuple[int, bool]:
        return await run.replay(ids=ids or None, reason=reason), run.live

    count, live = on_run(directory, command, trust=trust)
    _check(count, ids, directory)
    if as_json:
        print_json({"replayed": count, "live": live})
        return
    then = "the run asks them again now" if live else f"`stq resume {directory}` asks them again"
    _say(f"{count:,} put back; {then}" if count else "nothing to put back: no such dead letters")


@app.command(epilog=epilog("stq dlq purge runs/first --yes", PAGE))
def purge(
    directory: RunPath,
    reason: Reason = None,
    ids: Ids = None,
    yes: Annotated[bool, typer.Option("--yes", help="Say that it is meant: they are gone for good.")] = False,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters: all, or those chosen."""
    if not yes:
        raise ConfigError("purge deletes questions for good; --yes says that it is meant, `stq dlq list` shows which")

    async def command(run: RunControl) -> tuple[int, bool]:
        return await run.purge(ids=ids or None, reason=reason), run.live

    count, live = on_run(directory, command, trust=trust)
    _check(count, ids, directory)
    if as_json:
        print_json({"purged": count, "live": live})
        return
    _say(f"{count:,} deleted" if count else "nothing to delete: no such dead letters")


def _check(count: int, ids: Sequence[str] | None, directory: Path) -> None:
    """Raise ConfigError where questions were named and not all of them are dead letters."""
    if ids and count < (wanted := len(set(ids))):
        raise ConfigError(
            f"done for {count} of {wanted} questions: the others are no such dead letters; "
            f"`stq dlq list {directory}` shows those there are"
        )


def _say(text: str) -> None:
    echo(one_line(text))


def _text(value: Any, indent: str) -> str:
    """A value in full, its line breaks kept and indented."""
    return NONE if value is None else str(value).replace("\n", f"\n{indent}")
