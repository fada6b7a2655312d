from __future__ import annotations

import pytest

from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.nats.address import (
    Login,
    Server,
    check_prefix,
    parse_agent,
    parse_server,
    subject_of,
)


@pytest.mark.parametrize(
    ("url", "server", "login"),
    [
        ("nats://h:4333", Server("nats", "h", 4333), Login()),
        ("nats://h/", Server("nats", "h", 4222), Login()),
        ("tls://[::1]:1", Server("tls", "::1", 1), Login()),
        ("nats://u:p%40ss@h", Server("nats", "h", 4222), Login("u", "p@ss")),
        ("nats://u:@h", Server("nats", "h", 4222), Login("u", "")),
        ("nats://t%3A1@h", Server("nats", "h", 4222), Login(token="t:1")),
    ],
)
def test_a_server_and_its_login(url: str, server: Server, login: Login):
    assert parse_server(url) == (server, login)
    assert "p@ss" not in repr(login)
    assert "t:1" not in repr(login)
    assert parse_server(str(server)) == (server, Login())


def test_a_file_of_credentials_is_a_login_of_its_own():
    assert parse_server("nats://h", "a.creds")[1] == Login(credentials="a.creds")
    with pytest.raises(ConfigError, match="remove one of them"):
        parse_server("nats://s3cret@h", "a.creds")


@pytest.mark.parametrize(
    "url",
    ["h:4222", "http://h", "nats://", "nats://s3cret@", "nats://u:s3cret@h:0", "nats://u:s3cret@h:x", "nats://h/s3cret",
     "nats://u:s3cret@h?x=1", "nats://u:s3cret@h#x", "nats://u:s3cret@a,nats://b", ""],
)  # fmt: skip
def test_what_is_no_server_is_refused_without_its_secrets(url: str):
    with pytest.raises(ConfigError, match=r"nats\.url") as caught:
        parse_server(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("subject", ["a", "a.b-c.D_1", "a.b%2Ec", "工.人"])
def test_an_agents_subject_is_taken_as_it_stands(subject: str):
    assert parse_agent("w", f"nats://h:1/{subject}") == (Server("nats", "h", 1), subject)


@pytest.mark.parametrize(
    "address",
    ["nats://h", "nats://h/", "nats://h/a..b", "nats://h/.a", "nats://h/a.", "nats://h/a b", "nats://h/a.*",
     "nats://h/>", "nats://h/a/../\x00", "http://h/a", "nats://u:s3cret@h/a", "nats://h/a?b", "nats://h:99999/a"],
)  # fmt: skip
def test_what_is_no_agents_address_is_refused_without_its_secrets(address: str):
    with pytest.raises(ConfigError, match="agent 'w'") as caught:
        parse_agent("w", address)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("agent_id", ["Worker-1", "a.b", "a b", "*", ">", "工人", "a~b", "%", "/?#"])
def test_every_agents_id_makes_one_token_of_a_subject_that_can_be_registered(agent_id: str):
    subject = subject_of("stq", agent_id)
    assert subject.count(".") == 1
    assert parse_agent(agent_id, f"nats://h:1/{subject}") == (Server("nats", "h", 1), subject)


def test_different_ids_make_different_subjects():
    ids = ["a.b", "a%2Eb", "a b", "a%20b"]
    assert len({subject_of("stq", agent_id) for agent_id in ids}) == len(ids)


@pytest.mark.parametrize("prefix", ["", ".", "a.", "a b", "a.*", "a/b", "a?"])
def test_what_cannot_begin_a_subject_is_refused(prefix: str):
    assert check_prefix("team.a-1_x") == "team.a-1_x"
    with pytest.raises(ConfigError, match=r"nats\.prefix"):
        check_prefix(prefix)
