"""`stq protocols`: what can be named as a protocol, and what it needs."""

from __future__ import annotations

import json
from typing import Any

import typer

from streaming_queue.cli.options import AsJson
from streaming_queue.cli.text import columns, printable


def protocols(as_json: AsJson = False) -> None:
    """List the protocols and what they need.

    Installed or what to install, address scheme, capabilities.
    """
    from streaming_queue.comm import registry

    entries = [_entry(spec) for _, spec in sorted(registry.known().items())]
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
        return
    rows = [("PROTOCOL", "INSTALLED", "ADDRESS", "CAPABILITIES", "ABOUT")]
    for entry in entries:
        state = "yes" if entry["installed"] else entry["install"] or "broken"
        schemes = ", ".join(f"{scheme}://" for scheme in entry["schemes"]) or "-"
        rows.append((entry["name"], state, schemes, ", ".join(entry["capabilities"]) or "-", entry["summary"]))
    typer.echo(columns(rows))
    for entry in entries:
        if entry["problem"]:
            typer.echo(printable(f"{entry['name']}: {entry['problem']}"))


def _entry(spec: Any) -> dict[str, Any]:
    from streaming_queue.comm import registry
    from streaming_queue.errors import BackendNotInstalledError, ConfigError

    entry: dict[str, Any] = {
        "name": spec.name,
        "summary": spec.summary,
        "class": spec.target,
        "installed": False,
        "install": None,
        "problem": None,
        "capabilities": [],
        "schemes": [],
    }
    try:
        backend = registry.load(spec.name)
    except BackendNotInstalledError as error:
        return entry | {"install": spec.install, "problem": str(error)}
    except Exception as error:  # a package that others made must not hide the rest of the list
        return entry | {"problem": str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"}
    claims = getattr(backend, "capabilities", None)
    names = getattr(type(claims), "__dataclass_fields__", ())
    return entry | {
        "installed": True,
        "capabilities": [name for name in names if getattr(claims, name)],
        "schemes": list(getattr(backend, "schemes", ())),
    }
