"""What `protocol: auto` is to observe when it chooses among the protocols of a mixed network."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streaming_queue.config.section import Integer, NotBoolean, Positive, Section

AUTO = "auto"
"""In place of a protocol: each question goes by one of the workers' protocols that do well in this run."""


class Auto(Section):
    """What is required of every protocol, and how the choice among them is made, for protocol auto."""

    streaming: bool = Field(False, description="Whether each protocol must stream.")
    cancel: bool = Field(False, description="Whether each must end the work on a question that is cancelled.")
    identity: bool = Field(False, description="Whether each must let the worker know who asks.")
    e2e_encryption: bool = Field(False, description="Whether each must hide the text from all that are between.")
    max_overhead_ms: Positive | None = Field(
        None,
        description="Protocol overhead above which a protocol is held back, in milliseconds; null: as the best allows.",
    )
    exploration: Annotated[float, Field(gt=0, le=0.5), NotBoolean] = Field(
        0.05, description="Share of questions for the protocols held back, to see how they do now."
    )
    seed: Integer = Field(0, description="Seed of the moments of exploration.")

    @property
    def required(self) -> list[str]:
        """The capabilities that every protocol must have; a limit of overhead can be kept where it is told."""
        named = ("streaming", "cancel", "identity", "e2e_encryption")
        return [name for name in named if getattr(self, name)] + ["metadata"] * (self.max_overhead_ms is not None)
