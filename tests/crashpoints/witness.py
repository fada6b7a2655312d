"""An agent that keeps a log of its own, for `stq serve worker --executor witness:Witness`."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from pathlib import Path
from typing import Any

LOG, REFUSE = Path(os.environ["WITNESS_LOG"]), Path(os.environ["WITNESS_REFUSE"])
PAUSE_S = float(os.environ.get("WITNESS_PAUSE_S", "0"))
numbers = itertools.count(1)


def note(what: str, question: str, answer: str | None = None) -> None:
    with LOG.open("a") as log:
        log.write(json.dumps([what, question, answer]) + "\n")


class Witness:
    """No answer is given twice. While the file WITNESS_REFUSE is there, each third question fails."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        question = context.get_user_input()
        note("asked", question)
        if REFUSE.exists() and int(question.split()[2]) % 3 == 0:
            raise ValueError(question)
        await asyncio.sleep(PAUSE_S)
        answer = f"answer {next(numbers)} to {question}"
        note("answered", question, answer)
        await event_queue.enqueue_event({"type": "agent_text_message", "data": answer})
