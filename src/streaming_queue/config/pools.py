"""The pools of a hierarchical network: the value of `network.pools`, and the tree of agents that the pools make."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import cached_property
from itertools import count
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from streaming_queue.config.section import ByName, Section, Text, WorkerCount, listed, refuse_unknown

MOST_LEVELS = 8
"""The deepest nesting of pools. Each level passes a question on once; the network limits these hops."""
_WORKER = re.compile(r"Worker-([1-9]\d{0,8})", re.ASCII)


class Pool(Section):
    """The pool of one sub-coordinator. A list stands for its `workers`."""

    count: WorkerCount | None = None
    """Number of workers; they take the next free numbers."""
    workers: Annotated[tuple[Text, ...], listed("a list of agents, like [Worker-1, Worker-2]")] = ()
    """Agents by name: workers, or other pools."""
    protocol: Text | None = None
    """Protocol of its agents; null: the protocol of the run."""


def _pools(given: Any) -> Any:
    """`given` with each pool as a mapping. Errors name common mistakes."""
    if not isinstance(given, Mapping):
        raise ValueError("must be a mapping, like {Sub-1: {count: 2}}")  # noqa: TRY004
    return {pool_id: _spelled_out(pool_id, pool) for pool_id, pool in given.items()}


def _spelled_out(pool_id: Any, pool: Any) -> Any:
    if not isinstance(pool_id, str):
        raise ValueError(f"the pool's name {pool_id!r} must be a text; put it in quotes")  # noqa: TRY004
    if isinstance(pool, list | tuple):
        return {"workers": pool}
    if isinstance(pool, Pool):
        return pool
    if not isinstance(pool, Mapping):
        raise ValueError(f"{pool_id!r} must be a list of agents, like [Worker-1], or like {{count: 2}}")  # noqa: TRY004
    refuse_unknown(repr(pool_id), pool, Pool.model_fields)
    return pool


PoolsById = Annotated[
    dict[str, Pool],
    BeforeValidator(_pools, json_schema_input_type=dict[str, Pool | list[Text]]),
    AfterValidator(ByName),
]


class Hierarchy:
    """The tree of pools and workers. A pool's name is the id of its sub-coordinator. Workers are the leaves.

    Pure and immutable. Raises ValueError if the pools do not form a tree. The text names the pool and the remedy.
    """

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self.pools = pools
        self._refuse_names_of_others()
        named = self._parents()
        self._refuse_cycles(named)
        self.members = self._members(named)
        """The agents of each pool, workers and pools, in their order."""
        self.parents = {member: pool_id for pool_id, members in self.members.items() for member in members}
        """The pool of each agent that is in one."""

    @cached_property
    def top(self) -> tuple[str, ...]:
        """The pools of the coordinator itself: no other pool contains them."""
        return tuple(pool_id for pool_id in self.pools if pool_id not in self.parents)

    @cached_property
    def workers(self) -> tuple[str, ...]:
        """All workers, from Worker-1 on."""
        found = [member for members in self.members.values() for member in members if member not in self.pools]
        return tuple(sorted(found, key=_number))

    def leaves(self, agent_id: str) -> int:
        """Number of workers that answer for an agent: all workers of a pool, or one."""
        return sum(map(self.leaves, self.members[agent_id])) if agent_id in self.pools else 1

    def protocol_of(self, agent_id: str) -> str | None:
        """The protocol of an agent by its pool. None: the run's protocol."""
        parent = self.parents.get(agent_id)
        return None if parent is None else self.pools[parent].protocol

    # --- checks ---

    def _refuse_names_of_others(self) -> None:
        for pool_id in self.pools:
            if not pool_id:
                raise ValueError("network.pools: a pool has no name; call it Sub-1, say")
            if pool_id == "Runner" or pool_id.startswith("Worker-"):
                raise ValueError(f"network.pools: {pool_id!r} is another agent's name; call the pool Sub-1, say")

    def _parents(self) -> dict[str, str]:
        """The pool of each agent that a pool names."""
        parents: dict[str, str] = {}
        for pool_id, pool in self.pools.items():
            if not pool.workers and pool.count is None:
                raise ValueError(f"network.pools: {pool_id!r} is empty: give it a count, or agents like [Worker-1]")
            for member in pool.workers:
                if member not in self.pools and not _WORKER.fullmatch(member):
                    raise ValueError(f"network.pools: {pool_id!r} names {member!r}, {self._hint(member)}")
                if member in parents:
                    also = "twice" if parents[member] == pool_id else f"and so does {parents[member]!r}"
                    raise ValueError(f"network.pools: {pool_id!r} names {member!r} {also}; an agent has one pool")
                parents[member] = pool_id
        return parents

    def _hint(self, member: str) -> str:
        known = [*self.pools, *(f"Worker-{number}" for number in range(1, 100))]
        near = difflib.get_close_matches(member, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"which is neither a pool nor a worker like 'Worker-1'{hint}"

    def _refuse_cycles(self, parents: Mapping[str, str]) -> None:
        for pool_id in self.pools:
            path = [pool_id]
            while (parent := parents.get(path[-1])) is not None and parent not in path:
                path.append(parent)
            if parent is not None:
                circle = " in ".join(map(repr, [*path[path.index(parent) :], parent]))
                raise ValueError(f"network.pools: {circle}: a pool cannot be within itself")
            if len(path) > MOST_LEVELS:
                raise ValueError(
                    f"network.pools: {pool_id!r} is {len(path)} pools deep; at most {MOST_LEVELS} are allowed"
                )

    def _members(self, parents: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        unnamed = (worker for number in count(1) if (worker := f"Worker-{number}") not in parents)
        members = {
            pool_id: (*pool.workers, *(next(unnamed) for _ in range(pool.count or 0)))
            for pool_id, pool in self.pools.items()
        }
        numbers = sorted(_number(member) for group in members.values() for member in group if member not in self.pools)
        for expected, number in enumerate(numbers, 1):
            if number != expected:
                raise ValueError(
                    f"network.pools: 'Worker-{expected}' is in no pool, but 'Worker-{number}' is: "
                    "workers are numbered from Worker-1 on, without a gap"
                )
        return members


def _number(worker_id: str) -> int:
    matched = _WORKER.fullmatch(worker_id)
    return int(matched[1]) if matched else 0
