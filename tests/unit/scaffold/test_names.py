from __future__ import annotations

import pytest

from streaming_queue.errors import ConfigError
from streaming_queue.scaffold.names import MAX_CHARACTERS, Names


@pytest.mark.parametrize(
    ("given", "protocol", "package", "prefix"),
    [
        ("acme", "acme", "acme", "Acme"),
        ("my-proto", "my-proto", "my_proto", "MyProto"),
        ("my_proto", "my-proto", "my_proto", "MyProto"),
        ("x", "x", "x", "X"),
        ("mqtt5-over-tls1", "mqtt5-over-tls1", "mqtt5_over_tls1", "Mqtt5OverTls1"),
        ("a" * MAX_CHARACTERS, "a" * MAX_CHARACTERS, "a" * MAX_CHARACTERS, "A" + "a" * (MAX_CHARACTERS - 1)),
    ],
)
def test_a_name_has_three_forms(given: str, protocol: str, package: str, prefix: str) -> None:
    names = Names.of(given)
    assert (names.protocol, names.package, names.prefix) == (protocol, package, prefix)
    assert names.package.isidentifier()


@pytest.mark.parametrize(
    "given",
    ["", "My", "1st", "-a", "a-", "a--b", "a-_b", "a b", "a.b", "a/b", "../a", "é", "a\n", "a" * (MAX_CHARACTERS + 1)],
)
def test_what_is_no_name_says_what_one_is(given: str) -> None:
    with pytest.raises(ConfigError, match="write a letter, then letters and digits, all lower case") as caught:
        Names.of(given)
    assert repr(given) in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("http", "'http' is taken by a protocol that is here, streaming_queue.protocol_backend.http.comm:HttpComm"),
        ("class", "'class' is a word of Python's"),
        ("asyncio", "'asyncio' is a module of Python's own"),
        ("pytest", "'pytest' is taken by a package that is installed, pytest"),
        ("streaming-queue", "'streaming-queue' is taken by a package that is installed, streaming_queue"),
    ],
)
def test_an_error_names_the_owner_of_a_taken_name(given: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Names.of(given)


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch) -> None:
    (tmp_path / "acme").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert Names.of("acme").package == "acme"
