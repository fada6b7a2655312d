"""`stq protocol VERB`: protocols and their backends. A verb is a function in a file of its own here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from streaming_queue.cli.help import epilog
from streaming_queue.cli.protocol.bench import bench
from streaming_queue.cli.protocol.new import new
from streaming_queue.cli.protocol.test import test
from streaming_queue.cli.protocols import protocols

__all__ = ["app"]

PAGE = "docs/guide/new-backend.md"
VERBS: tuple[tuple[Callable[..., Any], str, str], ...] = (
    (new, "stq protocol new my-proto", PAGE),
    (test, "stq protocol test my_module:MyBackend", "docs/conformance.md"),
    (bench, "stq protocol bench grpc --against http,ws", "docs/performance.md"),
)

app = typer.Typer(name="protocol", help="List protocols; write, test and measure a backend.", rich_markup_mode=None)
app.command("list", epilog=epilog("stq protocol list", PAGE))(protocols)
for _verb, _example, _page in VERBS:
    app.command(epilog=epilog(_example, _page))(_verb)
