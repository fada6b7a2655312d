"""`stq protocol VERB`: for whoever writes a backend. A verb is a function in a file of its own here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from streaming_queue.cli.protocol.bench import bench
from streaming_queue.cli.protocol.new import new
from streaming_queue.cli.protocol.test import test

__all__ = ["app"]

VERBS: tuple[Callable[..., Any], ...] = (new, test, bench)

app = typer.Typer(name="protocol", help="For whoever writes a protocol's backend.", rich_markup_mode=None)
for _verb in VERBS:
    app.command()(_verb)
