from __future__ import annotations

from typing import Any

import pytest

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.composite import backend_of
from streaming_queue.comm.context import NETWORK_PRINCIPAL, OPERATOR_PRINCIPAL
from streaming_queue.config import Config
from streaming_queue.config.redaction import revealed
from streaming_queue.errors import ConfigError
from streaming_queue.runner.backends import create_backend, create_network_backend


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


BOTH = Config.of({"protocol": "http", "network": {"token": "asks", "operator_token": "commands"}})


async def test_an_operators_token_is_shown_to_the_coordinator_alone_and_is_another_principal() -> None:
    backend = create_backend(BOTH, coordinator="Coordinator-1")
    shown = {agent_id: backend.options[agent_id].credential for agent_id in ("Coordinator-1", "Worker-1", "Sub-1")}
    assert shown == {"Coordinator-1": "commands", "Worker-1": "asks", "Sub-1": "asks"}
    authenticator = backend.host_options.authenticator
    assert authenticator
    assert [await authenticator(each) for each in ("commands", "asks", "", "comm")] == [
        OPERATOR_PRINCIPAL, NETWORK_PRINCIPAL, None, None,
    ]  # fmt: skip
    assert backend.host_options.guarded
    assert "commands" not in repr(backend.options["Coordinator-1"])


async def test_a_backend_that_commands_nothing_does_not_know_it() -> None:
    backend = create_backend(BOTH)
    assert backend.options["Coordinator-1"].credential == "asks"
    assert backend.host_options.authenticator
    assert await backend.host_options.authenticator("commands") is None
    alone = Config.of({"protocol": "http", "network": {"operator_token": "commands"}})
    assert create_backend(alone).host_options.authenticator is None
    assert not create_backend(alone, coordinator="Coordinator-1").host_options.guarded


async def test_a_run_commands_its_own_coordinator_by_a_token_that_no_worker_gets() -> None:
    groups = [{"count": 1}, {"protocol": "ws", "count": 1}]
    config = Config.of({"protocol": "http", "network": {"token": "asks"}, "workers": groups})
    backend = create_network_backend(config)
    assert config.network.operator_token is None
    own, other = (backend_of(backend, agent_id) for agent_id in ("Coordinator-1", "Worker-2"))
    random = own.options["Coordinator-1"].credential
    assert random not in (None, "asks")
    assert own.host_options.authenticator
    assert await own.host_options.authenticator(random) == OPERATOR_PRINCIPAL
    assert (own.options["Worker-1"].credential, other.options["Coordinator-1"].credential) == ("asks", "asks")
    assert other.host_options.authenticator
    assert await other.host_options.authenticator(random) is None
    await backend.close()


def test_a_workers_configuration_has_no_operators_token() -> None:
    for config in (BOTH.of_worker("Worker-1"), BOTH.without_operator()):
        assert config.network.operator_token is None
        assert config.network.token == BOTH.network.token
    assert "commands" not in str(revealed(BOTH.of_worker("Worker-1")))


def test_without_a_token_no_caller_is_checked() -> None:
    backend = create_backend(Config.of({"protocol": "http"}))
    assert backend.host_options.authenticator is None
    assert backend.host_options.allow_public is False
    assert create_backend(Config.of({"network": {"allow_public": True}})).host_options.allow_public is True


def test_another_protocol_may_be_named() -> None:
    assert create_backend(Config(), "inproc").name == "inproc"


def test_a_backend_that_takes_no_options_is_made_without_and_never_with_a_rule_it_cannot_keep() -> None:
    assert create_backend(Config.of({"protocol": PLAIN})).made
    for network in ({"token": "x"}, {"allow_public": True}):
        with pytest.raises(ConfigError, match="Plain refuses our options"):
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


NATS = {"protocol": "nats", "options": {"prefix": "team"}}


async def test_workers_share_a_backend_where_they_do_not_differ() -> None:
    groups = [{"protocol": "http", "count": 2}, {}, NATS, {"protocol": "nats"}, {"protocol": "nats", "count": 1}]
    backend = create_network_backend(Config.of({"workers": groups}))
    reached = [backend_of(backend, agent_id) for agent_id in ("Coordinator-1", *(f"Worker-{n}" for n in range(1, 7)))]
    coordinator, first, second, third, other, nats, last = reached
    assert [each.name for each in reached] == ["a2a", "http", "http", "a2a", "nats", "nats", "nats"]
    assert first is second
    assert third is coordinator
    assert nats is last is not other
    assert other._prefix == "team"
    await backend.close()


async def test_one_backend_does_where_all_are_reached_by_it() -> None:
    backend = create_network_backend(Config.of({"protocol": "http", "workers": [{}, {"protocol": "http"}]}))
    assert type(backend).name == "http"
    assert backend_of(backend, "Worker-1") is backend
    await backend.close()


def test_a_coordinator_whose_protocol_cannot_host_is_in_this_process() -> None:
    backend = create_network_backend(Config.of({"protocol": PLAIN, "workers": [{"protocol": "http"}, {}]}))
    names = [
        backend_of(backend, agent_id).protocol_of(agent_id) for agent_id in ("Coordinator-1", "Worker-1", "Worker-2")
    ]
    assert names == ["inproc", "http", "plain"]


def test_a_backend_that_cannot_be_made_is_named_with_its_worker() -> None:
    with pytest.raises(ConfigError, match=r"workers: Worker-2: .*Plain refuses our options"):
        create_network_backend(Config.of({"workers": [{}, {"protocol": PLAIN}], "network": {"token": "x"}}))
