"""The configuration section of nats: its keys are keywords of the backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import SecretStr

from streaming_queue.config.backends import BackendSection
from streaming_queue.config.section import PathText, Text


class Nats(BackendSection):
    """The NATS server of hosted agents, for the protocol nats."""

    variables: ClassVar[Mapping[str, str]] = {"NATS_URL": "url", "NATS_CREDS": "credentials"}

    url: SecretStr | None = None
    """nats://[user:password@ or token@]host[:port], or tls://; null: our own server, on loopback. Also NATS_URL.
    Never shown."""
    credentials: PathText | None = None
    """File with a JWT and its seed, if the server needs one. Also NATS_CREDS."""
    prefix: Text | None = None
    """First part of the subjects of agents hosted here. Agents of one id and prefix, in any process, are instances of
    one agent. null: no other process has their subjects."""
