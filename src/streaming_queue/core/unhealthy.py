"""The words for agents that do not answer: equal reasons once, and never more than a page of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from streaming_queue.comm.commands import is_command
from streaming_queue.errors import ConfigError, ConnectError, StreamingQueueError
from streaming_queue.masking import masked

MOST_GROUPS = 5
MOST_NAMES = 3
LONGEST = 600
"""How many characters of a reason are repeated."""


def unhealthy(reasons: Mapping[str, StreamingQueueError], addresses: Mapping[str, str]) -> StreamingQueueError:
    """The one error for all agents in `reasons`, of those in `addresses`.

    A ConfigError where the settings of all are at fault, which no start of an agent mends; else a ConnectError.
    """
    told = by_reason(reasons, addresses)
    if all(isinstance(reason, ConfigError) for reason in reasons.values()):
        return ConfigError(f"no agent can be asked: {told}")
    return ConnectError(f"no healthy agent answers: {told}; start it there or correct the address")


def by_reason(reasons: Mapping[str, StreamingQueueError | str], addresses: Mapping[str, str]) -> str:
    """`A at ADDRESS: reason`, or `3 of 4 agents: reason (A at ADDRESS, B at ADDRESS and 1 more)`, reason by reason."""
    groups: dict[str, list[str]] = {}
    for agent_id, reason in reasons.items():
        groups.setdefault(_bare(str(reason), addresses.get(agent_id, "")), []).append(agent_id)
    told = [
        _group(agent_ids, reason, reasons, addresses)
        for reason, agent_ids in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]
    more = [f"and {len(told) - MOST_GROUPS} reasons more"] if len(told) > MOST_GROUPS else []
    return "; ".join([*told[:MOST_GROUPS], *more])


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _group(
    agent_ids: Sequence[str],
    reason: str,
    reasons: Mapping[str, StreamingQueueError | str],
    addresses: Mapping[str, str],
) -> str:
    names = [f"{agent_id} at {masked(addresses.get(agent_id, ''))}" for agent_id in agent_ids]
    if len(names) > 1:
        return f"{len(names)} of {len(addresses)} agents: {_short(reason)} ({listed(names)})"
    whole = str(reasons[agent_ids[0]]).removeprefix(f"{masked(addresses.get(agent_ids[0], ''))}: ")
    return f"{names[0]}: {_short(whole)}"


def _bare(reason: str, address: str) -> str:
    """A reason without its agent's own address, so that equal ones are told once."""
    reason = reason.removeprefix(f"{masked(address)}: ")
    parts = urlsplit(address)
    if is_command(address) or not parts.netloc:
        return reason
    server = f"{parts.scheme}://{parts.netloc}"  # nats: many agents are behind one
    return reason.removeprefix(f"{server}: ").replace(parts.netloc, "its address")


def _short(reason: str) -> str:
    return reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}..."
