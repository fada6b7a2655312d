"""The only import of the `anp` package. The package logs to the root logger; we drop its lines and raise errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from anp.authentication import (
    build_content_digest,
    create_did_wba_document,
    extract_signature_metadata,
    generate_http_signature_headers,
    verify_http_message_signature,
)
from anp.authentication.did_resolver import build_did_resolution_url
from anp.authentication.did_wba import validate_did_document_binding

__all__ = [
    "Document",
    "build_content_digest",
    "build_did_resolution_url",
    "create_did_wba_document",
    "extract_signature_metadata",
    "generate_http_signature_headers",
    "quietly",
    "validate_did_document_binding",
    "verify_http_message_signature",
]

Document = Mapping[str, Any]
"""A DID document."""

logging.getLogger("anp.authentication.http_signatures").setLevel(logging.CRITICAL)  # its lines repeat a caller's bytes


@contextmanager
def quietly() -> Iterator[None]:
    """Within the block, drop the lines of the root logger itself, and keep it from installing a handler."""
    root, nowhere = logging.getLogger(), logging.NullHandler()
    root.addHandler(nowhere)
    root.addFilter(_drop)
    try:
        yield
    finally:
        root.removeFilter(_drop)
        root.removeHandler(nowhere)


def _drop(record: logging.LogRecord) -> bool:
    del record
    return False
