"""`stq anp identity new`: a DID, its document and its private key for the protocol anp."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streaming_queue.cli.help import epilog
from streaming_queue.cli.options import AsJson
from streaming_queue.cli.text import echo, print_json
from streaming_queue.telemetry.text import one_line

END = epilog("stq anp identity new", "docs/protocols/anp.md")

app = typer.Typer(name="anp", help="Commands of the protocol anp.", rich_markup_mode=None)
identity = typer.Typer(name="identity", help="Identities of agents.", epilog=END, rich_markup_mode=None)
app.add_typer(identity)


@identity.callback()
def _group() -> None:
    """Keep a group of one command a group."""


@identity.command(epilog=END)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name in the DID.")] = "agent",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Directory to write. [./NAME]", file_okay=False)
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="NAME", help="Host that will serve the document over HTTPS.")
    ] = "localhost",
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Port of that host. [443]", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a did:wba identity with its document and key.

    Nothing is overwritten.
    """
    from streaming_queue.comm import registry

    registry.load("anp")  # says what to install
    from streaming_queue.protocol_backend.anp.identity import DOCUMENT_FILE, KEY_FILE, LOCALHOST, Identity

    directory = output or Path(name)
    made = Identity.create(name, host=host, port=port)
    made.save(directory)
    document, key = directory / DOCUMENT_FILE, directory / KEY_FILE
    if as_json:
        found = {"did": made.did, "document": str(document), "private_key": str(key), "document_url": made.document_url}
        print_json(found)
        return
    folder, shown = one_line(str(directory)), one_line(str(document))
    echo(
        f"{made.did}\n"
        f"  {shown} is its document: agents that it calls may read it\n"
        f"  {one_line(str(key))} is its private key: keep it here\n"
        f"\n"
        f"Next:\n"
        f"\n"
        f"  stq run -p anp -s anp.identity={folder}\n"
        f"  stq serve worker -p anp -s 'anp.trusted=[{shown}]'"
    )
    if host != LOCALHOST:
        echo(f"\nOther agents look for the document at {made.document_url}: publish it there.")
