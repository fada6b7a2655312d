"""An agent's manifest: written for hosted agents, and read from a peer. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from streaming_queue.comm.skills import declared
from streaming_queue.errors import ProtocolError, UnavailableError
from streaming_queue.protocol_backend.acp.codec import CALL_EXTENSION, agent_name

_PROMISE = (
    "Reads the call's context from HTTP headers, and the id of a run from the request's Run-ID. A repeated message "
    "with the same idempotency key leads to the same work."
)


def own_manifest(agent_id: str, executor: object) -> dict[str, Any]:
    """The manifest of a hosted agent, from its executor's `description` and `skills`.

    Raises ConfigError like `comm.skills.declared`.
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
    """The fields of a peer's manifest that we use. `is_ours`: it declares our extension."""

    name: str
    description: str
    capabilities: tuple[str, ...]
    is_ours: bool

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Manifest:
        """The fields in `document`; it ignores fields that are missing or have a wrong type."""
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
    """Choose from a list of agents: the one with this name, else the one with this id, else the only one.

    Raises:
        ProtocolError: it is not a list of agents.
        ConnectError: the agent is not in the list, or the address must name one of several.
    """
    listed = document.get("agents")
    if not isinstance(listed, list) or not all(
        isinstance(item, Mapping) and isinstance(item.get("name"), str) for item in listed
    ):
        raise ProtocolError(f"{address}: the answer is not a list of agents")
    by_name = {item["name"]: item for item in listed}
    if name is not None:
        if name in by_name:
            return Manifest.of(by_name[name])
        raise UnavailableError(f"{address}: it has no agent {name!r}{_those(by_name)}")
    for wanted in (agent_id, agent_name(agent_id)):
        if wanted in by_name:
            return Manifest.of(by_name[wanted])
    if len(listed) == 1:
        return Manifest.of(listed[0])
    remedy = f"name one in the address: {address}/agents/NAME"
    raise UnavailableError(f"{address}: which of its agents is {agent_id!r}?{_those(by_name)}; {remedy}")


def _those(names: Collection[str]) -> str:
    shown = ", ".join(f"{name[:80]!a}" for name in list(names)[:10])
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"; there are {shown}{more}" if shown else "; there are none"
