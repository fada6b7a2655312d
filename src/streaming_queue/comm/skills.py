"""What an agent says it can do, for protocols that have a card or a manifest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Skill:
    """One thing that an agent can be asked for. An executor lists its own as `skills`, beside its `description`.

    `examples` are messages that ask for it.
    """

    id: str
    name: str
    description: str
    tags: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
