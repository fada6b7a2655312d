"""The configuration section of pigeon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, SecretStr

from streaming_queue.config.backends import BackendSection
from streaming_queue.config.section import Text


class Pigeon(BackendSection):
    """How a pigeon greets, for the protocol pigeon."""

    variables: ClassVar[Mapping[str, str]] = {"PIGEON_RING": "ring"}

    greeting: Text | None = Field(None, description="The text before each answer.")
    ring: SecretStr | None = None
    """The mark of the pigeon. Never shown."""
