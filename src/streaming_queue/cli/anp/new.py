"""`stq anp identity new`: a DID, its document and its private key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from streaming_queue.cli.options import AsJson
from streaming_queue.cli.text import echo, echo_json
from streaming_queue.telemetry.text import one_line


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, the last word but one of the DID.")] = "agent",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where to write it. [./NAME]", file_okay=False)
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="NAME", help="Who will serve its document over HTTPS.")
    ] = "localhost",
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="The port there. [443]", show_default=False)
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
        echo_json(json.dumps(found, indent=2))
        return
    folder, shown = one_line(str(directory)), one_line(str(document))
    echo(
        f"{made.did}\n"
        f"  {shown} is its document: whoever is called by it may read it\n"
        f"  {one_line(str(key))} is its private key: it stays here\n"
        f"\n"
        f"Next:\n"
        f"\n"
        f"  stq run -p anp -s anp.identity={folder}\n"
        f"  stq serve worker -p anp -s 'anp.trusted=[{shown}]'"
    )
    if host != LOCALHOST:
        echo(f"\nAgents of others find the document at {made.document_url}: publish it there.")
