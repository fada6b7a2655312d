from __future__ import annotations

import shlex

import pytest

from streaming_queue.comm.shown import is_command, secrets_of, shown, without


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("http://127.0.0.1:9/key", "http://127.0.0.1:9/key"),
        ("nats://me:pw@h:4222/a", "nats://***@h:4222/a"),
        ("stdio:python 'my server.py' --books", "stdio:python 'my server.py' --books"),
        ("stdio:srv --api-key s3same x", "stdio:srv --api-key *** x"),
        ("stdio:srv --api-key=s3same", "stdio:srv --api-key=***"),
        ("stdio:env GH_TOKEN=s3same srv", "stdio:env GH_TOKEN=*** srv"),
        ("stdio:srv --header 'Authorization: Bearer s3same'", "stdio:srv --header 'Authorization: ***'"),
        ("stdio:srv http://me:s3same@h/", "stdio:srv http://***@h/"),
        ("stdio:srv --token --verbose", "stdio:srv --token --verbose"),
        ("stdio:srv --key 's3same", "stdio:..."),
        ("inproc://w", "inproc://w"),
    ],
)
def test_secrets_in_addresses_are_hidden(address: str, seen: str) -> None:
    assert shown(address) == seen


def test_what_a_command_repeats_is_hidden_too() -> None:
    secrets = list(secrets_of(shlex.split("srv --token s3same --pin-key 1")))
    assert without("bad token s3same, 1 more try", secrets) == "bad token ***, 1 more try"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("stdio:x", True),
        ("http://h", False),
        ("runs/first", False),
        ("c:/x", False),
        ("config.yaml", False),
        ("", False),
    ],
)
def test_a_command_is_told_from_urls_and_paths(text: str, is_one: bool) -> None:
    assert is_command(text) is is_one
