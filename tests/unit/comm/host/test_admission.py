"""The callers that a host admits, without a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.host.admission import Admission, Refusal, too_many_connections
from streaming_queue.errors import AuthError, RateLimitedError


async def only_ada(credential: str) -> str | None:
    return "ada" if credential == "s3cret word" else None


def admission(**options: Any) -> Admission:
    return Admission(HostOptions(**options), hosts=["h"])


@pytest.mark.parametrize(
    ("header", "principal"),
    [(b"", "guest"), (b"Bearer s3cret word", "ada"), (b"bearer s3cret word ", "ada")],
)
async def test_a_caller_without_a_header_is_the_anonymous_principal(header: bytes, principal: str):
    assert await admission(authenticator=only_ada, anonymous="guest").identify(header) == principal


@pytest.mark.parametrize("anonymous", ["guest", None])
@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (b"Bearer wrong", b'Bearer error="invalid_token"'),
        (b"Bearer \xff", b'Bearer error="invalid_token"'),
        (b"Bearer", b"Bearer"),
        (b"Basic s3cret word", b"Bearer"),
    ],
)
async def test_a_caller_with_a_wrong_header_is_refused(anonymous: str | None, header: bytes, challenge: bytes):
    refusal = await admission(authenticator=only_ada, anonymous=anonymous).identify(header)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, type(refusal.error)) == (401, AuthError)
    assert refusal.headers == ((b"www-authenticate", challenge),)


async def test_a_host_without_an_authenticator_asks_for_no_credential():
    assert await admission().identify(b"Bearer wrong") is None


def test_a_refused_connection_may_try_again_after_a_second():
    refusal = too_many_connections()
    assert isinstance(refusal.error, RateLimitedError)
    assert (refusal.status, refusal.error.retry_after_s) == (503, 1.0)
    assert refusal.headers == ((b"retry-after", b"1"),)
    assert json.loads(refusal.body)["error"]["retry_after_s"] == 1.0
