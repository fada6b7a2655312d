"""`stq protocol new`: write a package for a new protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streaming_queue.cli.text import echo
from streaming_queue.telemetry.text import one_line


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The protocol's name, such as my-proto.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where to write it. [./NAME]", file_okay=False)
    ] = None,
) -> None:
    """Write a package with a working backend.

    Four TODOs in it mark where your own protocol goes. Nothing is overwritten.
    """
    from streaming_queue.scaffold.package import new_package

    package = new_package(name, output)
    protocol, folder = package.names.protocol, one_line(str(package.directory))
    echo(
        f"{folder} is a package that works as it is. Next:\n"
        f"\n"
        f"  pip install -e '{folder}[dev]'\n"
        f"  stq protocol test {protocol}\n"
        f"  stq run -p {protocol} -n 20\n"
        f"\n"
        f"Your own protocol goes where these say TODO:\n"
    )
    for place in package.todos:
        echo(f"  {folder}/{place}")
