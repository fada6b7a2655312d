"""The settings of `protocol: auto`, which chooses among the protocols of a mixed network."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streaming_queue.config.section import Integer, NotBoolean, Positive, Section

AUTO = "auto"
"""A value of `protocol`: each question goes over a protocol that performs well in this run."""


class Auto(Section):
    """For protocol auto: the requirements for every protocol, and the choice among protocols."""

    streaming: bool = False
    """Whether each protocol must stream."""
    cancel: bool = False
    """Whether each protocol must end the work on a cancelled question."""
    identity: bool = False
    """Whether each protocol must identify the caller to the worker."""
    e2e_encryption: bool = False
    """Whether each protocol must encrypt the text end to end."""
    max_overhead_ms: Positive | None = None
    """Largest protocol overhead in milliseconds; a slower protocol is held back. null: by the best protocol."""
    exploration: Annotated[float, Field(gt=0, le=0.5), NotBoolean] = 0.05
    """Share of questions that go over protocols held back, to measure them again."""
    seed: Integer = 0
    """Seed of the choice of questions for exploration."""

    @property
    def required(self) -> list[str]:
        """The capabilities that every protocol must have. A limit of overhead needs metadata."""
        named = ("streaming", "cancel", "identity", "e2e_encryption")
        return [name for name in named if getattr(self, name)] + ["metadata"] * (self.max_overhead_ms is not None)
