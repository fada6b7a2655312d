"""The description (ad.json) and the interface (OpenRPC) of a hosted agent. No I/O."""

from __future__ import annotations

from typing import Any

AD_PATH, INTERFACE_PATH, RPC_PATH = "/ad.json", "/interface.json", "/rpc"
ASK, CANCEL = "ask", "cancel"
EVENT_STREAM = "text/event-stream"
STREAMS = "x-event-stream"
"""The extension of an OpenRPC method (OpenRPC 1.3, "Specification Extensions") that says it can be streamed."""

_TEXT = {"type": "string"}
_SECURITY = {"didwba_sc": {"scheme": "didwba", "in": "header", "name": "Authorization"}}


def agent_description(agent_id: str, did: str, base_url: str) -> dict[str, Any]:
    """The agent description (ANP, "Agent Description Protocol")."""
    return {
        "protocolType": "ANP",
        "protocolVersion": "1.0.0",
        "type": "AgentDescription",
        "url": base_url + AD_PATH,
        "identifier": did,
        "did": did,
        "name": agent_id,
        "description": "Answers questions.",
        "securityDefinitions": _SECURITY,
        "security": "didwba_sc",
        "interfaces": [
            {
                "type": "StructuredInterface",
                "protocol": "openrpc",
                "version": "1.3.2",
                "url": base_url + INTERFACE_PATH,
                "description": "Ask a question, cancel it.",
            }
        ],
    }


def interface(agent_id: str, base_url: str) -> dict[str, Any]:
    """The OpenRPC document of `ask` and `cancel`."""
    ask = {
        "name": ASK,
        "description": "Answer a question, given as text or as parts of text.",
        "params": [
            _parameter("text", _TEXT, "The question."),
            _parameter(
                "parts", {"type": "array", "items": {"type": "object"}}, "The question in parts, instead of text."
            ),
            _parameter("metadata", {"type": "object"}, "The call's context: idempotency_key, deadline_ms, attempt ..."),
        ],
        "result": {
            "name": "answer",
            "schema": {
                "type": "object",
                "properties": {"text": _TEXT, "metadata": {"type": "object"}},
                "required": ["text"],
            },
        },
        STREAMS: True,
    }
    cancel = {
        "name": CANCEL,
        "description": "Cancel the question with this idempotency key.",
        "params": [_parameter("idempotency_key", _TEXT, "The question's key.", required=True)],
        "result": {
            "name": "outcome",
            "schema": {"type": "object", "properties": {"cancelled": {"type": "boolean"}}, "required": ["cancelled"]},
        },
    }
    return {
        "openrpc": "1.3.2",
        "info": {"title": agent_id, "version": "1.0.0"},
        "methods": [ask, cancel],
        "servers": [{"name": "rpc", "url": base_url + RPC_PATH}],
        "securityDefinitions": _SECURITY,
        "security": "didwba_sc",
    }


def _parameter(name: str, schema: dict[str, Any], description: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "description": description, "schema": schema, "required": required}
