"""`stq anp identity VERB`: identities for the protocol anp. A verb is a function in a file of its own here."""

from __future__ import annotations

import typer

from streaming_queue.cli.anp.new import new
from streaming_queue.cli.help import epilog

__all__ = ["app"]

END = epilog("stq anp identity new", "docs/protocols/anp.md")

identity = typer.Typer(name="identity", help="Identities that agents call as.", epilog=END, rich_markup_mode=None)


@identity.callback()
def _group() -> None:
    """A group of one verb is still a group."""


identity.command(epilog=END)(new)
app = typer.Typer(name="anp", help="For the protocol anp.", rich_markup_mode=None)
app.add_typer(identity)
