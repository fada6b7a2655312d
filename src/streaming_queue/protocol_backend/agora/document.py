"""Protocol documents: our own document, the hash names of documents, and documents in `data:` URIs."""

from __future__ import annotations

import base64
import binascii
import hashlib
import pkgutil
from urllib.parse import quote, unquote_to_bytes

from streaming_queue.comm.payload import malformed

MAX_DOCUMENT_BYTES = 64 * 1024


def hash_of(document: str) -> str:
    """A document's name on the wire: its SHA-1, in base64."""
    return base64.b64encode(_digest(document)).decode()


def names_of(document: str) -> tuple[str, str]:
    """Both forms of the name: base64, as in Agora's own package, and hexadecimal, as in its draft (8.2)."""
    return hash_of(document), _digest(document).hex()


def _digest(document: str) -> bytes:
    return hashlib.sha1(document.encode(), usedforsecurity=False).digest()


def data_uri(document: str) -> str:
    """The document as a source that needs no fetch (RFC 2397)."""
    return f"data:text/plain;charset=utf-8,{quote(document)}"


def read_data_uri(source: str) -> str:
    """The document in a `data:` URI. Raises ProtocolError if the URI is not valid, is too large, or is not UTF-8."""
    kind, comma, data = source.removeprefix("data:").partition(",")
    if not comma or len(data) > 3 * MAX_DOCUMENT_BYTES:
        raise malformed("a data: source has no comma, or is too large")
    try:
        raw = unquote_to_bytes(data)
        if kind.lower().endswith(";base64"):
            raw = base64.b64decode(raw, validate=True)
    except binascii.Error as error:
        raise malformed(f"a data: source is not base64: {error}") from error
    return read_document(raw)


def read_document(raw: bytes) -> str:
    """The text of a document. Raises ProtocolError if it is too large, or is not UTF-8."""
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise malformed(f"a protocol document is over the limit of {MAX_DOCUMENT_BYTES} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"a protocol document is not UTF-8: {error}") from error


QUESTION_ANSWER = read_document(pkgutil.get_data(__package__, "question_answer.txt") or b"")
"""Our own document, loaded with this module; `routine.py` is its routine."""
HASH, HEX_HASH = names_of(QUESTION_ANSWER)
SOURCE = data_uri(QUESTION_ANSWER)
