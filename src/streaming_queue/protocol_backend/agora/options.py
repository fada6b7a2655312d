"""The configuration section of agora: its keys are keywords of the backend."""

from __future__ import annotations

from streaming_queue.config.backends import BackendSection
from streaming_queue.config.section import Text


class Agora(BackendSection):
    """Foreign protocol documents, for the protocol agora."""

    sources: tuple[Text, ...] = ()
    """Allowed sources of foreign protocol documents for a hosted agent's model: origins like https://example.org, and
    data: for documents in a message. Other sources are rejected."""
