from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import orjson
import pytest
from anp.authentication import DIDWbaAuthHeader, create_did_wba_document, verify_http_message_signature

from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.anp.identity import Identity


def test_what_is_saved_is_loaded(tmp_path: Path):
    made = Identity.create("me", host="example.com", port=8443)
    made.save(tmp_path / "deep" / "me")
    assert made.did.startswith("did:wba:example.com%3A8443:me:e1_")
    assert made.document_url == f"https://example.com:8443/me/{made.did.rpartition(':')[2]}/did.json"
    assert made.path == made.document_url.removeprefix("https://example.com:8443")
    loaded = Identity.load(str(tmp_path / "deep" / "me"))
    assert loaded.document == made.document
    signed = loaded.sign("POST", "http://localhost/rpc", b"{}")
    assert verify_http_message_signature(dict(made.document), "POST", "http://localhost/rpc", signed, b"{}")[0]
    assert not verify_http_message_signature(dict(made.document), "POST", "http://localhost/rpc", signed, b"[]")[0]
    key = tmp_path / "deep" / "me" / "key.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in repr(loaded)
    theirs = DIDWbaAuthHeader(str(key.with_name("did.json")), str(key)).get_auth_header("http://localhost/", body=b"x")
    assert "Signature" in theirs


def test_nothing_is_overwritten(tmp_path: Path):
    Identity.create("me").save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match="exists and is not overwritten"):
        Identity.create("me").save(tmp_path)
    (tmp_path / "did.json").unlink()
    with pytest.raises(ConfigError, match=r"key\.pem: exists"):
        Identity.create("me").save(tmp_path)
    assert (tmp_path / "key.pem").read_bytes() == before[tmp_path / "key.pem"]
    with pytest.raises(ConfigError, match="cannot be written"):
        Identity.create("me").save(tmp_path / "key.pem")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "é", "a:b", "a%2F"])
def test_names_that_a_did_cannot_hold(name: str):
    with pytest.raises(ConfigError, match="a name may have letters"):
        Identity.create(name)


@pytest.mark.parametrize("host", ["", "127.0.0.1", "::1", "a/b", "-a", "user@host", "host:80"])
def test_hosts_that_a_did_cannot_hold(host: str):
    with pytest.raises(ConfigError, match="a DID needs a host name"):
        Identity.create("me", host=host)


def readable(folder: Path) -> None:
    (folder / "key.pem").chmod(0o640)


def of_another(folder: Path) -> None:
    Identity.create("other").save(folder / "other")
    (folder / "other" / "key.pem").rename(folder / "key.pem")


def without(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def garbage(name: str) -> Any:
    return lambda folder: (folder / name).write_text("x")


def without_keys(folder: Path) -> None:
    document = orjson.loads((folder / "did.json").read_bytes())
    (folder / "did.json").write_bytes(orjson.dumps({"id": document["id"]}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (readable, "other users can read this private key: chmod 600"), (of_another, "is not the private key of did:wba:"),
        (without("key.pem"), r"key\.pem: cannot be read"), (without("did.json"), r"did\.json: cannot be read.*identity new"),
        (garbage("key.pem"), "is not a private key for signatures"), (garbage("did.json"), "is not a DID document"),
        (without_keys, "is not a DID document: it has no keys"),
    ],
)  # fmt: skip
def test_directories_that_hold_no_identity(tmp_path: Path, spoil: Any, words: str):
    Identity.create("me").save(tmp_path)
    assert Identity.load(str(tmp_path))
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=words):
        Identity.load(str(tmp_path))


def test_an_identity_that_the_package_made_with_another_kind_of_key(tmp_path: Path):
    document, keys = create_did_wba_document("example.com", path_segments=["me"], did_profile="k1", enable_e2ee=False)
    (tmp_path / "did.json").write_bytes(orjson.dumps(document))
    (tmp_path / "key.pem").write_bytes(keys["key-1"][0])
    (tmp_path / "key.pem").chmod(0o600)
    loaded = Identity.load(str(tmp_path))
    signed = loaded.sign("GET", "http://localhost/", b"")
    assert verify_http_message_signature(document, "GET", "http://localhost/", signed, b"")[0]


def test_the_package_installs_no_handler_on_the_root_logger(monkeypatch: pytest.MonkeyPatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    Identity.create("me")
    assert (root.handlers, root.filters) == ([], [])
