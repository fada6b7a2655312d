"""A worker whose answers take the time that the question names, for `bench/scheduling.py`.

`SLEEPER_FACTOR` makes it slower. `SLEEPER_STRAGGLERS` is the share of questions that take twenty times as long at this
worker; which, its id and the question decide.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from scheduling import is_straggler

FACTOR = float(os.environ.get("SLEEPER_FACTOR", "1"))
STRAGGLERS = float(os.environ.get("SLEEPER_STRAGGLERS", "0"))
NUMBER = int(os.environ.get("SLEEPER_NUMBER", "0"))


class Sleeper:
    """Sleeps, and answers."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        """`7 0.25` is question 7, which takes a quarter of a second."""
        number, seconds = context.get_user_input().split()
        slow = 20.0 if is_straggler(NUMBER, int(number), STRAGGLERS) else 1.0
        await asyncio.sleep(float(seconds) * FACTOR * slow)
        await event_queue.enqueue_event({"type": "agent_text_message", "data": number})
