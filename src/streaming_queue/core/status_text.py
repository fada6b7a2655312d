"""A coordinator's status as text: the line of `get_status`, and its figures.

A backend of the guide carries only text, so over its wire the figures travel in this line.
"""

from __future__ import annotations

import re

from streaming_queue.messages import ReplyMetadata

_STATUS = re.compile(
    r"[^\n]*?: (?:(?P<state>idle|running|failed)"
    r"|round (?P<round_id>\S+) (?P<round_state>[a-z]+), "
    r"(?P<done>\d+) answered, (?P<failed>\d+) failed of (?P<total>\d+))"
    r", \d+ workers(?: \((?P<directory>[^\n]+)\))?"
)


def status_text(coordinator_id: str, figures: ReplyMetadata, workers: int, *, paused: bool = False) -> str:
    """The status as one line; `figures` are those of `QACoordinatorBase.figures`.

    `figures_of` reads the figures from this line.
    """
    if figures["round_id"] is None:
        return f"{coordinator_id}: {figures['state']}, {workers} workers"
    state = "paused" if paused else figures["state"]
    counts = f"{figures['done']} answered, {figures['failed']} failed of {figures['total']}"
    return (
        f"{coordinator_id}: round {figures['round_id']} {state}, {counts}, {workers} workers ({figures['directory']})"
    )


def figures_of(text: str) -> ReplyMetadata | None:
    """The figures in a status line; None for any other text."""
    match = _STATUS.fullmatch(text.strip())
    if match is None:
        return None
    state = match["state"] or match["round_state"]
    figures: ReplyMetadata = {
        "state": "running" if state == "paused" else state,
        "round_id": match["round_id"],
        "done": int(match["done"] or 0),
        "failed": int(match["failed"] or 0),
        "total": int(match["total"] or 0),
    }
    if match["directory"]:
        figures["directory"] = match["directory"]
    return figures
