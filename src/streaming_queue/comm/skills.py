"""The skills of an agent, for protocols that have a card or a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streaming_queue.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Skill:
    """One ability of an agent. An executor lists its skills as `skills`, beside its `description`.

    `examples` are messages that use the skill.
    """

    id: str
    name: str
    description: str
    tags: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


ANSWERS = "Answers questions in plain text."
ANSWER = Skill(
    id="answer",
    name="Answer",
    description="Takes a question or a command as text and answers in text.",
    tags=("question-answering",),
    examples=("What is the capital of France?",),
)


def declared(agent_id: str, executor: object) -> tuple[str, tuple[Skill, ...]]:
    """An executor's `description` and `skills`; `ANSWERS` and `ANSWER` if it declares none.

    Raises ConfigError if they are not a text and a sequence of `Skill`.
    """
    description = getattr(executor, "description", None)
    if description is None:
        description = ANSWERS
    if not isinstance(description, str) or not description:
        raise ConfigError(f"agent {agent_id!r}: its executor's description must be a text")
    skills = getattr(executor, "skills", None)
    if skills is None:
        skills = (ANSWER,)
    if not isinstance(skills, Sequence) or not skills or not all(isinstance(skill, Skill) for skill in skills):
        raise ConfigError(f"agent {agent_id!r}: its executor's skills must be a sequence of comm.skills.Skill")
    return description, tuple(skills)
