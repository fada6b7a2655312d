"""The configuration section of agora: its keys are keywords of the backend."""

from __future__ import annotations

from streaming_queue.config.backends import BackendSection
from streaming_queue.config.section import Text


class Agora(BackendSection):
    """The documents of others, for the protocol agora."""

    sources: tuple[Text, ...] = ()
    """Where a hosted agent may take unknown protocol documents from, for its model to follow: origins like
    https://example.org, and data: for documents that come along. Others are rejected."""
