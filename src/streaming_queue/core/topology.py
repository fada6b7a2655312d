"""The edges of a network: pairs of agents that reach each other. A full mesh needs memory per agent, not per pair."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from streaming_queue.errors import TopologyError, UnknownAgentError


class Topology:
    """Agents and undirected edges. A mesh is stored as the set of its agents and of its removed edges."""

    def __init__(self) -> None:
        self._edges: dict[str, set[str]] = {}
        self._mesh: set[str] = set()
        self._cut: dict[str, set[str]] = {}

    def __contains__(self, agent_id: object) -> bool:
        return agent_id in self._edges

    def __iter__(self) -> Iterator[str]:
        return iter(self._edges)

    def __len__(self) -> int:
        return len(self._edges)

    def add(self, agent_id: str) -> None:
        """Add an agent without edges. Raises TopologyError if the agent is registered already."""
        if agent_id in self._edges:
            raise TopologyError(f"agent {agent_id!r} is registered already: ids are unique in a network")
        self._edges[agent_id] = set()

    def remove(self, agent_id: str) -> None:
        """Remove an agent and its edges. Raises UnknownAgentError."""
        self._known(agent_id)
        for neighbour in self._edges.pop(agent_id):
            self._edges[neighbour].discard(agent_id)
        self._mesh.discard(agent_id)
        for other in self._cut.pop(agent_id, set()):
            self._cut[other].discard(agent_id)

    def connect(self, a: str, b: str) -> None:
        """Add the edge between two agents. Raises UnknownAgentError, or TopologyError for an agent and itself."""
        self._known(a, b)
        if a == b:
            raise TopologyError(f"agent {a!r} cannot be connected to itself")
        for one, other in ((a, b), (b, a)):
            self._cut.get(one, set()).discard(other)
        if not self.allows(a, b):
            self._edges[a].add(b)
            self._edges[b].add(a)

    def disconnect(self, a: str, b: str) -> None:
        """Remove the edge between two agents, if there is one. Raises UnknownAgentError."""
        self._known(a, b)
        for one, other in ((a, b), (b, a)):
            self._edges[one].discard(other)
            if self._meshed(a, b):
                self._cut.setdefault(one, set()).add(other)

    def star(self, center: str) -> None:
        """Connect `center` with every other agent. Raises UnknownAgentError."""
        self._known(center)
        for agent_id in self._edges:
            if agent_id != center:
                self.connect(center, agent_id)

    def mesh(self) -> None:
        """Connect all agents with each other."""
        self._mesh = set(self._edges)
        self._cut.clear()

    def allows(self, a: str, b: str) -> bool:
        """Whether an edge connects the two agents."""
        return b in self._edges.get(a, ()) or (self._meshed(a, b) and b not in self._cut.get(a, ()))

    def neighbours(self, agent_id: str) -> AbstractSet[str]:
        """The agents at the other end of an agent's edges. Raises UnknownAgentError."""
        self._known(agent_id)
        meshed = self._mesh if agent_id in self._mesh else set()
        return (meshed - self._cut.get(agent_id, set()) - {agent_id}) | self._edges[agent_id]

    def _meshed(self, a: str, b: str) -> bool:
        return a != b and a in self._mesh and b in self._mesh

    def _known(self, *agent_ids: str) -> None:
        for agent_id in agent_ids:
            if agent_id not in self._edges:
                raise UnknownAgentError(f"no agent {agent_id!r} in this network: register it first")
