"""The requirements of `protocol: auto`, compared with the capabilities that the backends claim."""

from __future__ import annotations

from streaming_queue.comm import registry
from streaming_queue.comm.base import Capabilities
from streaming_queue.config import Config
from streaming_queue.errors import ConfigError


def check_requirements(config: Config) -> None:
    """Raise ConfigError if a protocol lacks a required capability. The text names both. Blocks."""
    lacking = []
    for protocol in sorted({setup.protocol for setup in config.roster.values()}):
        claimed = getattr(registry.load(protocol), "capabilities", None)  # a backend need not derive from ours
        claims = claimed if isinstance(claimed, Capabilities) else Capabilities()
        if lacks := [name for name in config.auto.required if not getattr(claims, name)]:
            lacking.append(f"{protocol} lacks {' and '.join(lacks)}")
    if lacking:
        needs_metadata = any("metadata" in each for each in lacking)
        why = " (max_overhead_ms needs metadata: the time of the model)" if needs_metadata else ""
        raise ConfigError(
            f"auto: {'; '.join(lacking)}{why}; leave these protocols out of workers, or the requirement out of auto"
        )
