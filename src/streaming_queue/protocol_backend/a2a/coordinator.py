"""The coordinator as A2A shows it."""

from __future__ import annotations

from streaming_queue.comm.skills import Skill
from streaming_queue.core.executors import CoordinatorExecutor


class A2ACoordinatorExecutor(CoordinatorExecutor):
    """A coordinator behind A2A, and what its card says."""

    description = "Streams a set of questions through a pool of workers and records each answer once."
    skills = (
        Skill(
            id="dispatch",
            name="Dispatch a round",
            description="Has every open question answered; the reply comes when the round has ended and says how.",
            tags=("command", "queue"),
            examples=("dispatch",),
        ),
        Skill(
            id="status",
            name="Tell the status",
            description="Says how many questions are answered, failed and open. Any other text asks for it, too.",
            tags=("command", "monitoring"),
            examples=("status",),
        ),
        Skill(
            id="attach",
            name="Attach to a round",
            description=(
                "Waits for the round under way, as dispatch does, and begins none. "
                'The message\'s metadata must say {"kind": "command"}.'
            ),
            tags=("command", "monitoring"),
            examples=("attach",),
        ),
    )
