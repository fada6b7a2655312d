"""Which version of A2A a request speaks (specification 1.0, section 3.6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson
from a2a.server.request_handlers.response_helpers import build_error_response
from a2a.utils.error_handlers import build_rest_error_payload
from a2a.utils.errors import A2AError, VersionNotSupportedError
from starlette.types import Scope

from streaming_queue.protocol_backend.a2a.dialect import V03, V1, VERSION_HEADER

_KEY = VERSION_HEADER.lower().encode()
_KNOWN = re.compile(rb"(1\.0|0\.3)(\.\d+)?")


def requested_version(scope: Scope, headers: Mapping[bytes, bytes]) -> str | None:
    """`"1.0"` or `"0.3"`, None for a version that we do not speak. No version, or an empty one, means 0.3.

    It may be a parameter of the request instead of a header; then it is made one.
    """
    named = headers.get(_KEY)
    if named is None and scope["query_string"]:
        parameters = parse_qs(scope["query_string"].decode("latin-1"))
        named = parameters.get(VERSION_HEADER, [""])[-1].encode("latin-1", "replace")
        scope["headers"] = [*scope["headers"], (_KEY, named)]
    return known_version(named)


def known_version(named: bytes | None) -> str | None:
    """The version meant by what a request names; None where we do not speak it. Nothing means 0.3."""
    if not named:
        return V03.version
    known = _KNOWN.fullmatch(named)
    return known[1].decode() if known else None


def fits(version: str | None, document: Any) -> bool:
    """Whether a JSON-RPC request is one of this version: the methods of 0.3 have a slash in their names."""
    method = document.get("method") if isinstance(document, dict) else None
    return version is not None and not (version == V1.version and isinstance(method, str) and "/" in method)


def refusal(document: Any, *, is_rpc: bool) -> tuple[int, bytes]:
    """Status and body for a request whose version is not spoken, or not by the method that it names."""
    error = VersionNotSupportedError(
        f"this host speaks A2A {V1.version} and {V03.version}, each with its own methods: name the one you use in the "
        f"header {VERSION_HEADER}; no header means {V03.version}"
    )
    return refused(error, is_rpc=is_rpc, document=document)


def refused(error: A2AError, *, is_rpc: bool, document: Any = None) -> tuple[int, bytes]:
    """Status and body for a request that is refused before it is looked at; its id is taken from its `document`."""
    if is_rpc:
        request_id = document.get("id") if isinstance(document, dict) else None
        known = isinstance(request_id, str | int) and not isinstance(request_id, bool)
        return 200, orjson.dumps(build_error_response(request_id if known else None, error))
    failure = build_rest_error_payload(error)
    return failure["error"]["code"], orjson.dumps(failure)
