"""The MCP description of a hosted agent, and the checks of a request. No I/O."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from streaming_queue import __version__
from streaming_queue.protocol_backend.mcp.dialect import (
    CAPABILITIES_KEY,
    EXTENSION,
    HEADER_MISMATCH,
    HOSTED,
    INVALID_PARAMS,
    METHOD_HEADER,
    METHOD_NOT_FOUND,
    MODERN,
    NAME_HEADER,
    READY_KEY,
    SERVER_KEY,
    UNSUPPORTED_VERSION,
    VERSION_HEADER,
    VERSION_KEY,
)

TOOL = "ask"
ARGUMENT = "question"
FRESH_MS = 60_000
"""A client may cache the description this long, in milliseconds: an agent's tool never changes."""

STATUS_BY_CODE: Mapping[int, int] = {METHOD_NOT_FOUND: 404}
"""An error's code -> its status by 2026-07-28, 400 for all others; the revisions with a handshake answer 200."""


class Refused(Exception):  # noqa: N818 (it is an answer, not a failure of ours)
    """A request gets a JSON-RPC error with this HTTP status."""

    def __init__(self, code: int, message: str, *, status: int | None = None, data: Any = None) -> None:
        super().__init__(message)
        self.status = STATUS_BY_CODE.get(code, 400) if status is None else status
        self.error: dict[str, Any] = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data


class Service:
    """One agent as a server with one tool."""

    def __init__(self, agent_id: str, description: str) -> None:
        self.server = {"name": agent_id, "version": __version__}
        self.tool = {
            "name": TOOL,
            "title": agent_id,
            "description": description,
            "inputSchema": {
                "type": "object",
                "properties": {ARGUMENT: {"type": "string", "description": "The question, as plain text."}},
                "required": [ARGUMENT],
            },
        }

    def complete(self, result: Mapping[str, Any], *, modern: bool) -> dict[str, Any]:
        """A result in the form of the revision."""
        if not modern:
            return dict(result)
        return {**result, "resultType": "complete", "_meta": {**(result.get("_meta") or {}), SERVER_KEY: self.server}}

    def answer(self, method: str, params: Mapping[str, Any], *, modern: bool, ready: bool) -> dict[str, Any]:
        """The result of a request that does not ask the agent. Raises Refused for an unknown method."""
        lasting = {"ttlMs": FRESH_MS, "cacheScope": "private"} if modern else {}
        if method == "tools/list":
            return {"tools": [self.tool], **lasting}
        if modern and method == "server/discover":
            capabilities: dict[str, Any] = {"tools": {}, "extensions": {EXTENSION: {}}}
            about = {"supportedVersions": list(HOSTED), "capabilities": capabilities, "_meta": {READY_KEY: ready}}
            return {**about, **lasting, "ttlMs": 0}
        if not modern and method == "initialize":
            wanted = params.get("protocolVersion")
            return {
                "protocolVersion": wanted if wanted in HOSTED[1:] else HOSTED[1],
                "capabilities": {"tools": {}, "experimental": {EXTENSION: {}}},
                "serverInfo": self.server,
            }
        if not modern and method == "ping":
            return {"_meta": {READY_KEY: ready}}
        raise Refused(METHOD_NOT_FOUND, f"unknown method {method[:60]!a}", status=None if modern else 200)


def is_modern(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the headers name the revision without a handshake. Raises Refused for an unknown revision."""
    version = _header(headers, VERSION_HEADER)
    if version is not None and version not in HOSTED:
        data = {"supported": list(HOSTED), "requested": version}
        raise Refused(UNSUPPORTED_VERSION, "unsupported protocol version", data=data)
    return version == MODERN


def check_envelope(headers: Mapping[bytes, bytes], method: str, params: Mapping[str, Any]) -> None:
    """Raise Refused if a request's headers do not match its body (2026-07-28, transports)."""
    meta = params.get("_meta")
    if not isinstance(meta, dict) or not isinstance(meta.get(CAPABILITIES_KEY), dict) or VERSION_KEY not in meta:
        raise Refused(INVALID_PARAMS, f"params._meta must have {VERSION_KEY} and {CAPABILITIES_KEY}")
    expected = {VERSION_HEADER: meta[VERSION_KEY], METHOD_HEADER: method}
    if method == "tools/call":
        expected[NAME_HEADER] = params.get("name")
    for name, value in expected.items():
        if _plain(_header(headers, name)) != value:
            raise Refused(HEADER_MISMATCH, f"the header {name} does not match the body")


def _header(headers: Mapping[bytes, bytes], name: str) -> str | None:
    value = headers.get(name.lower().encode())
    return None if value is None else value.decode("latin-1")


def _plain(value: str | None) -> str | None:
    """A header's text, decoded if `tools.header_value` has encoded it."""
    if value is None or not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
