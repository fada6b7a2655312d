"""Who answers in a run, as its manifest tells."""

from __future__ import annotations

from typing import Any

from streaming_queue.config import Config
from streaming_queue.llm.choice import choose


def resolve_provider(config: Config, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The facts of the provider that answers; None where workers that run already do, or they do not all by one.

    In `settings`, the public ones of `config`, each choice that is made here is named, so that a resume makes it again.
    """
    for group, written in zip(config.workers, settings["workers"], strict=True):
        if group.core and not group.endpoints:
            (setup, *_) = group.setups(config.protocol, config.core, None)
            written["core"]["type"] = choose(setup.core, config.mock).llm.provider
    answering = config.answering
    if config.core in answering:
        settings["core"]["type"] = choose(config.core, config.mock).llm.provider
    if len(answering) != 1 or any(setup.address is not None for setup in config.roster.values()):
        return None
    (core,) = answering
    choice = choose(core, config.mock)
    llm = choice.llm
    return {"name": llm.provider, "model": llm.model, "mock": llm.is_mock, "reason": choice.reason}
