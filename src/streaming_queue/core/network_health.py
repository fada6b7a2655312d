"""Health of a network's agents: whether they answer their probes, and the reasons if they do not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from streaming_queue.comm.commands import is_command
from streaming_queue.comm.probing import START_POLL_S, StartingError, answers, probed
from streaming_queue.errors import (
    AuthError,
    ConfigError,
    ConnectError,
    SendTimeoutError,
    StreamingQueueError,
    UnknownAgentError,
    typed,
)
from streaming_queue.masking import masked
from streaming_queue.telemetry.events import EventListener, Notice

logger = logging.getLogger(__name__)

HEALTH_BOUND_S = 3.0
START_NOTICE_S = 5.0
MOST_GROUPS = 5
MOST_NAMES = 3
LONGEST = 600
"""The longest part of a reason in a message, in characters."""


class NetworkHealth:
    """Probes the agents in `addresses`, the network's own, and keeps each agent's last reason.

    `backend` gives the network's backend; agents in `killed` are not probed.
    """

    def __init__(self, backend: Callable[[], Any], addresses: Mapping[str, str], killed: Collection[str]) -> None:
        self._backend = backend
        self._addresses = addresses
        self._killed = killed
        self._reasons: dict[str, StreamingQueueError] = {}

    async def probe(self, agent_ids: Iterable[str]) -> dict[str, StreamingQueueError | None]:
        """For each agent the reason why it does not answer, None if it answers; concurrent, bounded, never raises."""
        wanted = list(agent_ids)
        return dict(zip(wanted, await asyncio.gather(*map(self._probe, wanted)), strict=True))

    async def answers(self, agent_id: str) -> bool:
        """Whether an agent answers its probe; bounded. Raises StartingError while its process starts."""
        reason = await self._probe(agent_id)
        if isinstance(reason, StartingError):
            raise reason
        return answers(reason)

    def last_reason(self, agent_id: str) -> StreamingQueueError | None:
        """The reason of the agent's last probe; None if the agent answered or was never probed."""
        return self._reasons.get(agent_id)

    def forget(self, agent_id: str) -> None:
        """Forget the reason of an agent's last probe."""
        self._reasons.pop(agent_id, None)

    async def _probe(self, agent_id: str) -> StreamingQueueError | None:
        if agent_id not in self._addresses:
            return UnknownAgentError(f"no address is registered for agent {agent_id!r}")
        if agent_id in self._killed:
            return self._note(agent_id, ConnectError("it was killed"))
        reason: StreamingQueueError | None = SendTimeoutError("no answer to its probe")  # if our caller cancels
        try:
            async with asyncio.timeout(HEALTH_BOUND_S):
                reason = await probed(self._backend(), agent_id)
        except TimeoutError:
            reason = SendTimeoutError(f"no answer to its probe within {HEALTH_BOUND_S:g} s")
        except Exception as error:
            reason = typed(error, "its probe failed")
        finally:
            self._note(agent_id, reason)
        return reason

    def _note(self, agent_id: str, reason: StreamingQueueError | None) -> StreamingQueueError | None:
        if reason is None or agent_id not in self._addresses:  # the agent may have left meanwhile
            self._reasons.pop(agent_id, None)
        else:
            self._reasons[agent_id] = reason
            logger.debug("agent %r does not answer its probe: %r", agent_id, reason)
        return reason

    async def require(self, agent_ids: Collection[str], *, emit: EventListener | None = None) -> None:
        """Return when all these agents answer their protocol's probe.

        It waits for an agent whose process starts, as long as the backend allows; `emit` gets a notice every 5 s.

        Raises:
            ConnectError: some agents do not answer; the error names them and their reasons.
            ConfigError: wrong settings; some agents cannot be asked at all.
        """
        noted_at: dict[str, float] = {}
        while agent_ids:
            reasons = {agent: why for agent, why in (await self.probe(agent_ids)).items() if why is not None}
            starting = {agent: why for agent, why in reasons.items() if isinstance(why, StartingError)}
            failed = {agent: why for agent, why in reasons.items() if agent not in starting and not answers(why)}
            if failed:
                raise unhealthy(failed, self._addresses)
            if starting:
                _report(starting, noted_at, emit)
                await asyncio.sleep(START_POLL_S)
            agent_ids = starting

    async def missing(
        self, agent_ids: Collection[str], *, emit: EventListener | None = None
    ) -> dict[str, StreamingQueueError]:
        """The agents that do not answer their probe, with the reasons.

        While no agent answers and the process of one starts, it waits like `require`.
        """
        noted_at: dict[str, float] = {}
        while True:
            reasons = await self.probe(agent_ids)
            missing = {agent: why for agent, why in reasons.items() if why is not None and not answers(why)}
            starting = {agent: why for agent, why in missing.items() if isinstance(why, StartingError)}
            if len(missing) < len(reasons) or not starting:
                return missing
            _report(starting, noted_at, emit)
            await asyncio.sleep(START_POLL_S)

    async def require_credential(self, agent_id: str) -> None:
        """Raise AuthError if the agent refuses our credential for its probe or its description."""
        reason = self.last_reason(agent_id)
        if isinstance(reason, AuthError):
            raise reason
        describe = getattr(self._backend(), "describe", None)  # a backend need not be a subclass of ours
        if describe is None:
            return
        try:
            async with asyncio.timeout(HEALTH_BOUND_S):
                await describe(agent_id)
        except AuthError:
            raise
        except Exception as error:
            logger.debug("agent %r does not describe itself: %r", agent_id, error)


def _report(
    starting: Mapping[str, StreamingQueueError], noted_at: dict[str, float], emit: EventListener | None
) -> None:
    """Emit a notice about agents that still start: at once, and then every `START_NOTICE_S`."""
    now = time.monotonic()
    due = [agent_id for agent_id in starting if now - noted_at.get(agent_id, -START_NOTICE_S) >= START_NOTICE_S]
    noted_at.update(dict.fromkeys(due, now))
    by_text: dict[str, list[str]] = {}
    for agent_id in due:
        by_text.setdefault(str(starting[agent_id]), []).append(agent_id)
    for text, agent_ids in by_text.items():
        if emit is not None:
            emit(Notice("info", f"{listed(agent_ids)}: {text}"))


def unhealthy(reasons: Mapping[str, StreamingQueueError], addresses: Mapping[str, str]) -> StreamingQueueError:
    """One error for all agents in `reasons`; `addresses` has all agents of the network.

    It is a ConfigError if all reasons are wrong settings, since starting an agent does not help; else a ConnectError.
    """
    text = grouped(reasons, addresses)
    if all(isinstance(reason, ConfigError) for reason in reasons.values()):
        return ConfigError(f"no agent can be asked: {text}")
    return ConnectError(f"no healthy agent answers: {text}; start the agent or correct its address")


def grouped(reasons: Mapping[str, StreamingQueueError], addresses: Mapping[str, str]) -> str:
    """Each reason once: `A at ADDRESS: reason`, or `3 of 4 agents: reason (A at ADDRESS, ...)`; bounded."""
    groups: dict[str, list[str]] = {}
    for agent_id, reason in reasons.items():
        groups.setdefault(_bare(str(reason), addresses.get(agent_id, "")), []).append(agent_id)
    lines = []
    for bare, agent_ids in sorted(groups.items(), key=lambda group: -len(group[1])):
        names = [f"{agent_id} at {masked(addresses.get(agent_id, ''))}" for agent_id in agent_ids]
        if len(names) > 1:
            lines.append(f"{len(names)} of {len(addresses)} agents: {_short(bare)} ({listed(names)})")
        else:
            whole = str(reasons[agent_ids[0]]).removeprefix(f"{masked(addresses.get(agent_ids[0], ''))}: ")
            lines.append(f"{names[0]}: {_short(whole)}")
    more = [f"and {len(lines) - MOST_GROUPS} more reasons"] if len(lines) > MOST_GROUPS else []
    return "; ".join(lines[:MOST_GROUPS] + more)


def listed(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _bare(reason: str, address: str) -> str:
    """A reason without its agent's address, so that equal reasons appear once."""
    reason = reason.removeprefix(f"{masked(address)}: ")
    parts = urlsplit(address)
    if is_command(address) or not parts.netloc:
        return reason
    server = f"{parts.scheme}://{parts.netloc}"  # nats: one server has many agents
    return reason.removeprefix(f"{server}: ").replace(parts.netloc, "its address")


def _short(reason: str) -> str:
    return reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}..."
