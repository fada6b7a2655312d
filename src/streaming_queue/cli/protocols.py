"""`stq protocol list`: the known protocols and their needs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from streaming_queue.cli.options import AsJson
from streaming_queue.cli.text import columns, echo, echo_json
from streaming_queue.telemetry.text import one_line


def protocols(as_json: AsJson = False) -> None:
    """List protocols with their capabilities and specifications.

    A protocol that is not installed is listed with the command that installs it.
    """
    from streaming_queue.comm import registry

    entries = [_entry(spec) for _, spec in sorted(registry.known().items())]
    if as_json:
        echo_json(json.dumps(entries, indent=2))
        return
    echo(columns([("PROTOCOL", "INSTALLED", "ADDRESS", "CAPABILITIES", "PROBE"), *map(_abilities, entries)]))
    echo()
    echo(columns([("PROTOCOL", "ABOUT"), *(row for entry in entries for row in _origins(entry))]))
    problems = [f"{entry['name']}: {entry['problem']}" for entry in entries if entry["problem"]]
    if problems:
        echo("\n" + "\n".join(map(one_line, problems)))


def _abilities(entry: dict[str, Any]) -> tuple[str, ...]:
    state = "yes" if entry["installed"] else "no" if entry["install"] else "broken"
    schemes = " ".join(f"{scheme}://" for scheme in entry["schemes"])
    return (entry["name"], state, schemes or "-", " ".join(entry["capabilities"]) or "-", entry["probe"] or "-")


def _origins(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """The summary, and below it the specification, if the backend names one."""
    specification = ": ".join(filter(None, (entry["specification"], entry["link"])))
    return [(entry["name"], entry["summary"]), *([("", specification)] if specification else [])]


def _entry(spec: Any) -> dict[str, Any]:
    from streaming_queue.comm import registry
    from streaming_queue.comm.base import About, Capabilities
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
        **asdict(About()),
    }
    try:
        backend = registry.load(spec.name)
    except BackendNotInstalledError as error:
        return entry | {"install": spec.install, "problem": str(error)}
    except Exception as error:  # a broken package of a third party must not hide the others
        return entry | {"problem": str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"}
    claims, about = getattr(backend, "capabilities", None), getattr(backend, "about", None)
    names = asdict(claims) if isinstance(claims, Capabilities) else {}
    return entry | {
        "class": spec.target if ":" in spec.target else f"{spec.target}:{backend.__name__}",
        "installed": True,
        "capabilities": [name for name, claimed in names.items() if claimed],
        "schemes": list(getattr(backend, "schemes", ())),
        **(asdict(about) if isinstance(about, About) else {}),
    }
