from __future__ import annotations

import time

import pytest

from streaming_queue.errors import ConfigError, error_event
from streaming_queue.masking import is_secret_name, masked, masked_input


@pytest.mark.parametrize(
    "name", ["key", "api_key", "apikey", "API-KEY", "accessToken", "X-Amz-Signature", "sig", "auth", "client_secret"]
)
def test_secret_names(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["author", "max_tokens", "keyword", "question", "model", "signal"])
def test_names_of_no_secret(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://u:s3cret@h/v1", "http://***@h/v1"),
        ("http://u:s3c@ret@h/v1", "http://***@h/v1"),
        ("http://u:s3c/ret@h:1/v1", "http://***@h:1/v1"),
        ("https://h/v1?api_key=s3cret&x=1", "https://h/v1?api_key=***&x=1"),
        ("https://h/?api%5Fkey=s3cret#a", "https://h/?api%5Fkey=***#a"),
        ("no answer from wss://h/?sig=s3cret, twice", "no answer from wss://h/?sig=*** twice"),
        ("http://h:80/a@b", "http://h:80/a@b"),
        ("?key=words and a@b", "?key=words and a@b"),
        ("stdio:py x.py --verbose --token s3cret --port 1", "stdio:py x.py --verbose --token *** --port 1"),
        ("stdio:py x.py --token=s3cret -v", "stdio:py x.py --token=*** -v"),
        ("stdio:py x.py --token -s3cret -v", "stdio:py x.py --token *** -v"),
        ("stdio:env API_KEY='s3 cret' py", "stdio:env API_KEY=*** py"),
        (r"stdio:x --token a\ s3cret b", "stdio:x --token *** b"),
        ('stdio:x -H "Authorization: Bearer s3cret" y', 'stdio:x -H "Authorization: ***" y'),
        ('stdio:x --token "s3cret unclosed', "stdio:x --token ***"),
        ("stdio:x http://u:s3cret@h --author me", "stdio:x http://***@h --author me"),
        ("stdio:cat /etc/passwd: cannot be run", "stdio:cat /etc/passwd: cannot be run"),
    ],
)
def test_what_is_shown(text, shown):
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize("text", ["""stdio:x -c '{"api_key": "s3cret"}'""", "stdio:sh -c 'TOKEN=s3cret exec x'"])
def test_what_is_not_shown(text):
    assert "s3cret" not in masked(text)


def test_an_address_without_a_scheme():
    assert masked_input("u:s3cret@host:99999") == "***@host:99999"
    assert masked_input("stdio:a@b") == "stdio:a@b"


def test_an_error_keeps_no_credential_of_an_address():
    error = ConfigError("http://u:s3cret@h/?token=t0ken: refused")
    assert "s3cret" not in str(error_event(error))
    assert "t0ken" not in repr(error)


@pytest.mark.parametrize(
    "text", ["://" * 200_000, "://a:b" * 100_000, "stdio:" + "'a:" * 100_000, "://h?" + "a=" * 99_999]
)
def test_a_text_made_to_take_long_does_not(text):
    began = time.process_time()
    masked(text)
    assert time.process_time() - began < 10
