"""A conversation as one text, the same for every endpoint and every protocol: an agent takes one text. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "developer", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant")

HISTORY = "The conversation so far:"
LAST = "The last message of the user:"
_LABELS: dict[Role, str] = {"system": "System", "developer": "Developer", "user": "User", "assistant": "Assistant"}
_BREAK = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Role
    text: str


def transcript(turns: Sequence[Turn]) -> str:
    """The text that an agent gets for a conversation; the last turn is the user's, the question.

    One turn alone is exactly its text. Before a longer conversation's question stand the earlier turns, each after the
    label of its role:

    ```
    The conversation so far:

    System: Answer in one word.

    User: What is the capital of France?

    Assistant: Paris.

    The last message of the user:

    And the one of Italy?
    ```

    Further lines of an earlier turn are indented by two spaces, so no text of a turn can pose as the label of another.
    The question stands last and unchanged.
    """
    if len(turns) == 1:
        return turns[0].text
    earlier = [f"{_LABELS[turn.role]}: {_BREAK.sub(_indented, turn.text)}" for turn in turns[:-1]]
    return "\n\n".join([HISTORY, *earlier, LAST, turns[-1].text])


def _indented(line_break: re.Match[str]) -> str:
    return f"{line_break[0]}  "
