"""The names in MCP and in our extension, as data. No I/O, no SDK."""

from __future__ import annotations

JSON = "application/json"

MODERN = "2026-07-28"
"""The revision with independent requests: no handshake, no session."""
HANDSHAKES = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""The revisions that begin with `initialize`, newest first."""
VERSIONS = (MODERN, *HANDSHAKES)
HOSTED = (MODERN, "2025-11-25", "2025-06-18")
"""The revisions of our host: 2025-03-26 requires batches, and 2024-11-05 has another transport."""

VERSION_HEADER = "Mcp-Protocol-Version"
SESSION_HEADER = "Mcp-Session-Id"
METHOD_HEADER = "Mcp-Method"
NAME_HEADER = "Mcp-Name"
PARAM_HEADER = "Mcp-Param-"

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CLIENT_KEY = "io.modelcontextprotocol/clientInfo"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
SERVER_KEY = "io.modelcontextprotocol/serverInfo"

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022

EXTENSION = "streaming-queue/agent"
"""Our extension. A server that declares it reads the call's context from a request's `_meta`, and writes annotations
and failures to the result's `_meta`. A repeated question with the same idempotency key gets the answer of the same
work. A `notifications/cancelled` may name the key."""

CONTEXT_KEY = "streaming-queue/context"
"""In the `_meta` of a call: the call's context, without `traceparent`, which has its own key in MCP."""
METADATA_KEY = "streaming-queue/metadata"
"""In the `_meta` of a result or of progress: the agent's annotations."""
ERROR_KEY = "streaming-queue/error"
"""In the `_meta` of a result with `isError`: the failure, an `errors.error_event`."""
EVENT_KEY = "streaming-queue/event"
"""In the `_meta` of progress: the type of its event."""
IDEMPOTENCY_KEY = "streaming-queue/idempotency_key"
"""In the `_meta` of `notifications/cancelled`: the key of the cancelled question."""
READY_KEY = "streaming-queue/ready"
"""In the `_meta` of `server/discover` and `ping`: whether the agent takes questions."""
TRACEPARENT = "traceparent"
