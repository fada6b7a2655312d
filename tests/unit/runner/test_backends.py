from __future__ import annotations

from typing import Any

import pytest

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.config import Config
from streaming_queue.errors import ConfigError
from streaming_queue.runner.backends import create_backend


class Plain(BaseCommBackend):
    """As the guide has it: made with nothing."""

    def __init__(self) -> None:
        self.made = True

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any: ...

    async def health_check(self, agent_id: str) -> bool: ...


PLAIN = f"{__name__}:Plain"


async def test_a_token_is_shown_to_every_agent_and_demanded_by_those_hosted_here() -> None:
    backend = create_backend(Config.of({"protocol": "http", "network": {"token": "s3cret"}}))
    for agent_id in ("Worker-1", "anybody"):
        assert backend.options.get(agent_id).credential == "s3cret"
    authenticator = backend.host_options.authenticator
    assert authenticator
    assert await authenticator("s3cret") == "network"
    assert await authenticator("s3cre") is None
    assert await authenticator("") is None
    assert "s3cret" not in repr(backend.options.get("x"))


def test_without_a_token_nobody_is_asked() -> None:
    backend = create_backend(Config.of({"protocol": "http"}))
    assert backend.host_options.authenticator is None
    assert backend.host_options.allow_public is False
    assert create_backend(Config.of({"network": {"allow_public": True}})).host_options.allow_public is True


def test_another_protocol_may_be_named() -> None:
    assert create_backend(Config(), "inproc").name == "inproc"


def test_a_backend_that_takes_no_options_is_made_without_and_never_with_a_rule_it_cannot_keep() -> None:
    assert create_backend(Config.of({"protocol": PLAIN})).made
    for network in ({"token": "x"}, {"allow_public": True}):
        with pytest.raises(ConfigError, match="Plain takes no options"):
            create_backend(Config.of({"protocol": PLAIN, "network": network}))


def test_a_protocols_own_section_makes_its_backend() -> None:
    nats = {"url": "nats://me:s3cret@h:4333", "prefix": "team"}
    backend = create_backend(Config.of({"protocol": "nats", "nats": nats}))
    assert (str(backend._server), backend._login.password, backend._prefix) == ("nats://h:4333", "s3cret", "team")
    assert create_backend(Config.of({"protocol": "http", "nats": nats})).name == "http"
    assert create_backend(Config.of({"protocol": "nats"}))._server is None
    with pytest.raises(ConfigError, match=r"nats\.url") as caught:
        create_backend(Config.of({"protocol": "nats", "nats": {"url": "s3cret@h"}}))
    assert "s3cret" not in str(caught.value)
