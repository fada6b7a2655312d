from __future__ import annotations

import pytest

from streaming_queue.comm.commands import is_command, secrets_of, without


@pytest.mark.parametrize(
    ("address", "secrets"),
    [
        ("stdio:python 'my server.py' --books", set()),
        ("stdio:srv --api-key s3same x", {"s3same"}),
        ("stdio:srv --api-key 's3 same'", {"s3 same"}),
        ("stdio:srv --api-key=s3same", {"s3same"}),
        ("stdio:env GH_TOKEN=s3same srv", {"s3same"}),
        ("stdio:srv --header 'Authorization: Bearer s3same'", {"Bearer s3same"}),
        ("stdio:srv http://me:s3same@h/", {"me:s3same"}),
        ("stdio:srv --key 's3same", set()),
    ],
)
def test_the_secrets_of_a_command_are_known(address: str, secrets: set[str]) -> None:
    assert secrets_of(address) == secrets


def test_what_a_command_repeats_is_hidden_too() -> None:
    secrets = secrets_of("stdio:srv --token s3same --pin-key 1")
    assert without("s3same is refused, 1 more try", secrets) == "*** is refused, 1 more try"


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
