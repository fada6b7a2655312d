"""The endpoint's commands: their names, and what each may be given. A command is `POST /<name>` with a JSON object.

The answer is `{"result": ...}`, or a status of 4xx or 5xx and `{"error": <agent_error event>}` (`errors.error_event`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streaming_queue.comm import strict_json
from streaming_queue.errors import ProtocolError


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_Arguments = Mapping[str, Callable[[object], bool]]
_CHOICE: _Arguments = {"ids": _are_texts, "reason": _is_text}

COMMANDS: Mapping[str, _Arguments] = {
    "stats": {},
    "pause": {},
    "resume": {},
    "drain": {},
    "workers": {},
    "add_worker": {"address": _is_text, "protocol": _is_text, "worker_id": _is_text},
    "remove_worker": {"worker_id": _is_text, "at_once": _is_flag},
    "dead_letters": {"reason": _is_text, "after": _is_number, "limit": _is_number},
    "dead_letter": {"question_id": _is_text},
    "replay": _CHOICE,
    "purge": _CHOICE,
}
"""Each a method of `RunControl`, and what it may be given."""

NEEDED: Mapping[str, tuple[str, ...]] = {
    "add_worker": ("address",),
    "remove_worker": ("worker_id",),
    "dead_letter": ("question_id",),
}
"""What it must be given."""


def read_arguments(command: str, body: bytes) -> dict[str, Any]:
    """What `body` gives a command; null is not given. Raises ProtocolError."""
    try:
        document = strict_json.loads(body) if body else {}
    except ValueError as error:
        raise ProtocolError(f"the body is no JSON: {error}", retryable=False) from error
    if not isinstance(document, dict):
        raise ProtocolError("the body must be a JSON object", retryable=False)
    given = {name: value for name, value in document.items() if value is not None}
    known = COMMANDS[command]
    wrong = [name for name, value in given.items() if name not in known or not known[name](value)]
    missing = [name for name in NEEDED.get(command, ()) if name not in given]
    if wrong or missing:
        takes = ", ".join(known) or "nothing"
        raise ProtocolError(
            f"{command}: wrong or missing: {', '.join(wrong + missing)}; it takes {takes}", retryable=False
        )
    return given
