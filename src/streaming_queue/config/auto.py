"""The settings of `protocol: auto`, which chooses among the protocols of a mixed network."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streaming_queue.config.section import Integer, NotBoolean, Positive, Section

AUTO = "auto"
"""A value of `protocol`: each question goes over a protocol that does well in this run."""


class Auto(Section):
    """What is required of every protocol, and how the choice among them is made, for protocol auto."""

    streaming: bool = False
    """Whether each protocol must stream."""
    cancel: bool = False
    """Whether each must end the work on a cancelled question."""
    identity: bool = False
    """Whether each must tell the worker who asks."""
    e2e_encryption: bool = False
    """Whether each must hide the text from all systems between the ends."""
    max_overhead_ms: Positive | None = None
    """Protocol overhead above which a protocol is held back, in milliseconds. null: by the best protocol."""
    exploration: Annotated[float, Field(gt=0, le=0.5), NotBoolean] = 0.05
    """Share of questions that go over protocols held back, to measure them again."""
    seed: Integer = 0
    """Seed of the moments of exploration."""

    @property
    def required(self) -> list[str]:
        """The capabilities that every protocol must have. A limit of overhead needs metadata."""
        named = ("streaming", "cancel", "identity", "e2e_encryption")
        return [name for name in named if getattr(self, name)] + ["metadata"] * (self.max_overhead_ms is not None)
