"""The configuration section of agora: its keys are keywords of the backend."""

from __future__ import annotations

from pydantic import Field

from streaming_queue.config.backends import BackendSection
from streaming_queue.config.section import Text


class Agora(BackendSection):
    """The documents of others, for the protocol agora."""

    sources: tuple[Text, ...] = Field(
        (),
        description="Where a hosted agent may take protocol documents from that it does not know, to have them "
        "followed by its model: origins like https://example.org, and data: for those that come along. "
        "Others are rejected.",
    )
