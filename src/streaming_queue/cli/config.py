"""`stq config`: the settings in use, their schema, and a file of the defaults."""

from __future__ import annotations

from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated

import typer

from streaming_queue.cli.help import epilog
from streaming_queue.cli.options import AsJson, ConfigPath, Sets
from streaming_queue.cli.text import columns, echo, print_json
from streaming_queue.errors import ConfigError

PAGE = "docs/configuration.md"

app = typer.Typer(name="config", help="Show, describe or write the configuration.", rich_markup_mode=None)


@app.command(epilog=epilog("stq config show config.yaml", PAGE))
def show(path: ConfigPath = None, sets: Sets = None, as_json: AsJson = False) -> None:
    """Print every setting, its value and its origin; secrets are hidden."""
    from streaming_queue.cli.config_file import one_line
    from streaming_queue.config import KEYS, load_config

    config = load_config(path, sets=sets or ())
    public = config.public()
    values = {key: reduce(getitem, key.split("."), public) for key in KEYS.names}
    if as_json:
        print_json({key: {"value": value, "origin": config.origin(key)} for key, value in values.items()})
        return
    rows = ((key, one_line(value), config.origin(key)) for key, value in values.items())
    echo(columns([("KEY", "VALUE", "ORIGIN"), *rows]))


@app.command(epilog=epilog("stq config schema > schema.json", PAGE))
def schema() -> None:
    """Print the JSON Schema of a configuration file."""
    from streaming_queue.cli.config_file import json_schema

    print_json(json_schema())


@app.command(epilog=epilog("stq config init config.yaml", PAGE))
def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")] = Path("config.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented configuration file of the defaults."""
    from streaming_queue.cli.config_file import default_file

    text = default_file()  # before the file is opened: a failure leaves no empty file
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} exists already; --force overwrites it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    echo(f"wrote {path}")
