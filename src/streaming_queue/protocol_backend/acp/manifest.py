"""An agent's manifest: what it says of itself, and what a peer reads of it. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from streaming_queue.comm.skills import declared
from streaming_queue.errors import ConnectError, ProtocolError
from streaming_queue.protocol_backend.acp.codec import CALL_EXTENSION, agent_name

_PROMISE = (
    "Reads the call's context from HTTP headers, takes the id of a run from the request's Run-ID, and brings a message "
    "with an idempotency key back to the same work."
)


def own_manifest(agent_id: str, executor: object) -> dict[str, Any]:
    """The manifest of an agent hosted here, by its executor's `description` and `skills`.

    Raises ConfigError as `comm.skills.declared` does.
    """
    description, skills = declared(agent_id, executor)
    return {
        "name": agent_name(agent_id),
        "description": description,
        "input_content_types": ["text/plain"],
        "output_content_types": ["text/plain"],
        "metadata": {
            "framework": "streaming-queue",
            "capabilities": [{"name": skill.name, "description": skill.description} for skill in skills],
            "tags": list(dict.fromkeys(tag for skill in skills for tag in skill.tags)),
            "annotations": {CALL_EXTENSION: _PROMISE},
        },
    }


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a peer's manifest says to us. `is_ours`: it declares our extension."""

    name: str
    description: str
    capabilities: tuple[str, ...]
    is_ours: bool

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Manifest:
        """What `document` says; what is missing or of another shape is left out."""
        metadata = document.get("metadata")
        metadata = metadata if isinstance(metadata, Mapping) else {}
        listed, annotations = metadata.get("capabilities"), metadata.get("annotations")
        return cls(
            name=str(document["name"]),
            description=str(document.get("description") or ""),
            capabilities=tuple(
                str(item.get("name"))
                for item in (listed if isinstance(listed, list) else ())
                if isinstance(item, Mapping)
            ),
            is_ours=isinstance(annotations, Mapping) and CALL_EXTENSION in annotations,
        )


def choose(document: Mapping[str, Any], agent_id: str, name: str | None, address: str) -> Manifest:
    """The agent meant in a list of agents: the one of this name, else the one of this id, else the only one.

    Raises:
        ProtocolError: it is no list of agents.
        ConnectError: the agent is not among them, or nobody says which one is meant.
    """
    listed = document.get("agents")
    if not isinstance(listed, list) or not all(
        isinstance(item, Mapping) and isinstance(item.get("name"), str) for item in listed
    ):
        raise ProtocolError(f"{address}: what it answers is no list of agents")
    by_name = {item["name"]: item for item in listed}
    if name is not None:
        if name in by_name:
            return Manifest.of(by_name[name])
        raise ConnectError(f"{address}: it has no agent {name!r}{_those(by_name)}")
    for wanted in (agent_id, agent_name(agent_id)):
        if wanted in by_name:
            return Manifest.of(by_name[wanted])
    if len(listed) == 1:
        return Manifest.of(listed[0])
    remedy = f"name one in the address: {address}/agents/NAME"
    raise ConnectError(f"{address}: which of its agents is {agent_id!r}?{_those(by_name)}; {remedy}")


def _those(names: Collection[str]) -> str:
    shown = ", ".join(f"{name[:80]!a}" for name in list(names)[:10])
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"; there are {shown}{more}" if shown else "; there are none"
