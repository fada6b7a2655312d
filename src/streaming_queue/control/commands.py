"""The endpoint's commands: the methods of `RunControl`. A command is `POST /<name>` with its arguments as JSON.

The answer is `{"result": ...}`, or a status of 4xx or 5xx and `{"error": <agent_error event>}` (`errors.error_event`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from streaming_queue.comm import strict_json
from streaming_queue.control.base import RunControl
from streaming_queue.errors import ProtocolError

_CHECKS: Mapping[str, Callable[[object], bool]] = {
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "Sequence[str]": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
}
"""Annotation of an argument -> check of a JSON value."""

COMMANDS: Mapping[str, Mapping[str, inspect.Parameter]] = {
    name: {key: each for key, each in inspect.signature(method).parameters.items() if key != "self"}
    for name, method in vars(RunControl).items()
    if inspect.isfunction(method) and not name.startswith("_")
}
"""Name of a command -> its arguments."""


def read_arguments(command: str, body: bytes) -> dict[str, Any]:
    """The arguments in `body`; null counts as absent. Raises ProtocolError."""
    try:
        document = strict_json.loads(body) if body else {}
    except ValueError as error:
        raise ProtocolError(f"the body is not JSON: {error}", retryable=False) from error
    if not isinstance(document, dict):
        raise ProtocolError("the body must be a JSON object", retryable=False)
    given = {name: value for name, value in document.items() if value is not None}
    known = COMMANDS[command]
    wrong = [name for name, value in given.items() if name not in known or not _fits(known[name], value)]
    missing = [name for name, each in known.items() if each.default is each.empty and name not in given]
    if wrong or missing:
        takes = ", ".join(known) or "nothing"
        raise ProtocolError(
            f"{command}: wrong or missing: {', '.join(wrong + missing)}; it takes {takes}", retryable=False
        )
    return given


def _fits(argument: inspect.Parameter, value: object) -> bool:
    return _CHECKS[argument.annotation.removesuffix(" | None")](value)
