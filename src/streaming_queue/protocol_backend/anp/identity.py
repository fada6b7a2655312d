"""An identity: a did:wba, its document, and its private key."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.anp.documents import HOST, read_document
from streaming_queue.protocol_backend.anp.library import (
    Document,
    build_did_resolution_url,
    create_did_wba_document,
    generate_http_signature_headers,
    quietly,
    verify_http_message_signature,
)

DOCUMENT_FILE = "did.json"
KEY_FILE = "key.pem"
LOCALHOST = "localhost"

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_HOST = re.compile(HOST)


@dataclass(frozen=True, slots=True)
class Identity:
    """A DID document and its private key, loaded once."""

    document: Document
    key: Ed25519PrivateKey | EllipticCurvePrivateKey = field(repr=False)

    @property
    def did(self) -> str:
        """The DID."""
        return str(self.document["id"])

    @property
    def document_url(self) -> str:
        """The URL of the document at its host, from the DID."""
        return str(build_did_resolution_url(self.did))

    @property
    def path(self) -> str:
        """The path of that URL."""
        return urlsplit(self.document_url).path

    @classmethod
    def create(cls, name: str, *, host: str = LOCALHOST, port: int | None = None) -> Self:
        """A new Ed25519 identity (profile e1): the DID names its key, so no other key is valid for it.

        Raises ConfigError if a DID cannot contain the name or the host.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"identity {name!r}: a name may have letters, digits, dots, dashes and underscores")
        if not _HOST.fullmatch(host):
            raise ConfigError(f"identity {name!r}: a DID needs a host name, not {host!r}; on this machine: {LOCALHOST}")
        with quietly():
            document, keys = create_did_wba_document(host, port=port, path_segments=[name], enable_e2ee=False)
        return cls(document, _private_key(keys["key-1"][0]))

    @classmethod
    def load(cls, directory: str) -> Self:
        """The identity that `save` wrote. Reads files. Raises ConfigError with the file and the remedy."""
        document, key_file = read_document(Path(directory, DOCUMENT_FILE)), Path(directory, KEY_FILE)
        try:
            if key_file.stat().st_mode & 0o077:
                raise ConfigError(f"{key_file}: other users can read this private key: chmod 600 {key_file}")
            identity = cls(document, _private_key(key_file.read_bytes()))
        except OSError as error:
            raise ConfigError(f"{key_file}: cannot be read: {error.strerror}") from error
        except (TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{key_file}: is not a private key for signatures: {error}") from error
        try:
            signed = identity.sign("GET", "http://localhost/", b"")
        except ValueError as error:
            raise ConfigError(f"{Path(directory, DOCUMENT_FILE)}: has no key to authenticate with: {error}") from error
        if not verify_http_message_signature(dict(document), "GET", "http://localhost/", signed, b"")[0]:
            raise ConfigError(f"{key_file}: is not the private key of {identity.did}, the DID in {DOCUMENT_FILE}")
        return identity

    def save(self, directory: Path) -> None:
        """Write document and key (mode 0600) to `directory`. Raises ConfigError; never overwrites a file."""
        document, key = directory / DOCUMENT_FILE, directory / KEY_FILE
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for path in (document, key):
                if path.exists():
                    raise ConfigError(f"{path}: exists and is not overwritten: choose another directory")
            pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            _write_new(key, pem, 0o600)
            _write_new(document, orjson.dumps(self.document, option=orjson.OPT_INDENT_2) + b"\n", 0o644)
        except OSError as error:
            raise ConfigError(f"{directory}: cannot be written: {error.strerror}") from error

    def sign(self, method: str, url: str, body: bytes) -> dict[str, str]:
        """The signature headers of a request (RFC 9421): @method, @target-uri, @authority and the body's digest."""
        headers: dict[str, str] = generate_http_signature_headers(
            did_document=dict(self.document),
            request_url=url,
            request_method=method,
            sign_callback=self._signature,
            body=body,
        )
        return headers

    def _signature(self, content: bytes, fragment: str) -> bytes:
        del fragment
        if isinstance(self.key, Ed25519PrivateKey):
            return self.key.sign(content)
        return self.key.sign(content, ECDSA(SHA256()))


def _private_key(pem: bytes) -> Ed25519PrivateKey | EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise ValueError(f"{type(key).__name__} is not for a did:wba")  # noqa: TRY004 (the file's content is wrong)
    return key


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor has no path)
        os.fchmod(descriptor, mode)
        file.write(content)
