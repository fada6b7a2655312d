"""DID documents on disk: configured ones, and those that this user's processes share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import orjson

from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.anp.library import Document, quietly, validate_did_document_binding

MAX_DOCUMENT_BYTES = 64 * 1024
MAX_DID_CHARACTERS = 512

HOST = r"([A-Za-z0-9][A-Za-z0-9-]*\.)*[A-Za-z][A-Za-z0-9-]*"
"""A host name. Its last label begins with a letter: a name without that is an IP address in some form."""

_DID = re.compile(rf"did:wba:{HOST}(%3[Aa][0-9]{{1,5}})?(:[A-Za-z0-9._-]+)*")


def is_did(text: object) -> bool:
    """Whether `text` is a did:wba with a host name, optionally a port, and a path."""
    return isinstance(text, str) and len(text) <= MAX_DID_CHARACTERS and _DID.fullmatch(text) is not None


def parse_document(content: bytes) -> Document:
    """The DID document in `content`. If its DID names a key, the document must have that key.

    Raises ValueError if it is not such a document.
    """
    document: Any = orjson.loads(content)
    if not isinstance(document, dict) or not is_did(document.get("id")):
        raise ValueError("it is not the document of a did:wba")
    if not isinstance(document.get("authentication"), list) or not isinstance(document.get("verificationMethod"), list):
        raise ValueError("it has no keys to authenticate with")  # noqa: TRY004 (the content is wrong)
    try:
        with quietly():
            bound = validate_did_document_binding(document, verify_proof=True)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it is malformed ({type(error).__name__})") from error
    if not bound:
        raise ValueError("its proof is not valid, or its key is not the key in the DID")
    return document


def read_document(path: Path) -> Document:
    """The DID document in a file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            return parse_document(file.read(MAX_DOCUMENT_BYTES))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; `stq anp identity new` creates an identity"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not a DID document: {error}") from error


def read_documents(paths: Iterable[str]) -> Iterator[Document]:
    """The documents in files, and in all `did.json` and `*.did.json` below directories. Raises ConfigError."""
    for name in paths:
        path = Path(name).expanduser()
        if not path.is_dir():
            yield read_document(path)
            continue
        found = sorted({*path.rglob("did.json"), *path.rglob("*.did.json")})
        if not found:
            raise ConfigError(f"{path}: no did.json in it; `stq anp identity new -o {path}/NAME` creates one")
        yield from map(read_document, found)


class Neighbours:
    """The documents of the identities of this user's running processes. It reads files: not for the event loop.

    They are in the user's own directory below the system's temporary directory: only the user can write there. A file
    is locked while its process lives; the next process removes the file of a killed process.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._held: dict[Path, int] = {}

    @property
    def directory(self) -> Path:
        """The directory of the documents."""
        return self._directory or Path(tempfile.gettempdir()) / f"streaming-queue-{os.getuid()}" / "anp"

    def announce(self, document: Document) -> None:
        """Write a document that is valid while this process lives.

        Raises:
            ConfigError: other users can write to the directory.
            OSError: the file cannot be written.
        """
        self._open()
        self._sweep()
        content = orjson.dumps(document)
        while True:
            path = self.directory / f"{_digest(str(document['id']))}.{os.urandom(4).hex()}.json"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:  # else another process removed it before it was locked
                break
            os.close(descriptor)
        os.write(descriptor, content)
        self._held[path] = descriptor

    def find(self, did: str) -> Document | None:
        """The document of `did`, None if no process of this user uses it. Raises like `announce`."""
        if not self.directory.exists():
            return None
        self._open()
        for path in self.directory.glob(f"{_digest(did)}.*.json"):
            with suppress(OSError, ValueError), path.open("rb") as file:
                document = parse_document(file.read(MAX_DOCUMENT_BYTES))
                if document["id"] == did:
                    return document
        return None

    def withdraw(self) -> None:
        """Remove the documents of this process; idempotent."""
        held, self._held = self._held, {}
        for path, descriptor in held.items():
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def _open(self) -> None:
        """Create the directory, or check that it is ours: every user can write to the temporary directory."""
        for directory in (self.directory.parent, self.directory):
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)
            status = directory.lstat()
            if not S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
                raise ConfigError(
                    f"{directory}: is not a directory that only this user can write to: remove it, or list the trusted "
                    "callers (anp.trusted)"
                )

    def _sweep(self) -> None:
        """Remove the documents of processes that have ended."""
        for path in self.directory.iterdir():
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(descriptor)


def _digest(did: str) -> str:
    return hashlib.sha256(did.encode()).hexdigest()
