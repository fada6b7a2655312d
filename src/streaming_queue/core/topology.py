"""Who may speak to whom: edges, kept so that a full mesh costs its members, not its pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from streaming_queue.errors import TopologyError, UnknownAgentError


class Topology:
    """Agents and the undirected edges between them. A mesh is stored as a set of members, less what was cut from it."""

    def __init__(self) -> None:
        self._edges: dict[str, set[str]] = {}
        self._meshes: list[frozenset[str]] = []
        self._cut: dict[str, set[str]] = {}

    def __contains__(self, agent_id: object) -> bool:
        return agent_id in self._edges

    def __iter__(self) -> Iterator[str]:
        return iter(self._edges)

    def __len__(self) -> int:
        return len(self._edges)

    def add(self, agent_id: str) -> None:
        """Add an agent without edges. Raises TopologyError when it is there already."""
        if agent_id in self._edges:
            raise TopologyError(f"agent {agent_id!r} is registered already: ids are unique in a network")
        self._edges[agent_id] = set()

    def remove(self, agent_id: str) -> None:
        """Remove an agent and its edges. Raises UnknownAgentError."""
        self._known(agent_id)
        for neighbour in self._edges.pop(agent_id):
            self._edges[neighbour].discard(agent_id)
        self._meshes = [mesh - {agent_id} for mesh in self._meshes]
        for other in self._cut.pop(agent_id, set()):
            self._cut[other].discard(agent_id)

    def connect(self, a: str, b: str) -> None:
        """Add the edge between two agents. Raises UnknownAgentError, or TopologyError for an agent and itself."""
        self._known(a, b)
        if a == b:
            raise TopologyError(f"agent {a!r} cannot be connected to itself")
        if b in self._cut.get(a, ()):
            self._cut[a].discard(b)
            self._cut[b].discard(a)
        if not self.allows(a, b):
            self._edges[a].add(b)
            self._edges[b].add(a)

    def disconnect(self, a: str, b: str) -> None:
        """Remove the edge between two agents, if there is one. Raises UnknownAgentError."""
        self._known(a, b)
        self._edges[a].discard(b)
        self._edges[b].discard(a)
        if self._meshed(a, b):
            self._cut.setdefault(a, set()).add(b)
            self._cut.setdefault(b, set()).add(a)

    def star(self, center: str) -> None:
        """Connect `center` with every other agent. Raises UnknownAgentError."""
        self._known(center)
        for agent_id in self._edges:
            if agent_id != center:
                self.connect(center, agent_id)

    def mesh(self, members: Iterable[str] | None = None) -> None:
        """Connect all `members` (default: all agents) with each other. Raises UnknownAgentError."""
        mesh = frozenset(self._edges if members is None else members)
        self._known(*mesh)
        for agent_id in mesh & self._cut.keys():
            for other in self._cut[agent_id] & mesh:
                self._cut[other].discard(agent_id)
            self._cut[agent_id] -= mesh
        self._meshes = [other for other in self._meshes if not other <= mesh]
        if not any(mesh <= other for other in self._meshes):
            self._meshes.append(mesh)

    def allows(self, a: str, b: str) -> bool:
        """Whether an edge connects the two."""
        if b in self._edges.get(a, ()):
            return True
        return self._meshed(a, b) and b not in self._cut.get(a, ())

    def neighbours(self, agent_id: str) -> AbstractSet[str]:
        """The agents at the other end of an agent's edges. Raises UnknownAgentError."""
        self._known(agent_id)
        meshed = {member for mesh in self._meshes if agent_id in mesh for member in mesh}
        return (meshed - self._cut.get(agent_id, set()) - {agent_id}) | self._edges[agent_id]

    def _meshed(self, a: str, b: str) -> bool:
        return a != b and any(a in mesh and b in mesh for mesh in self._meshes)

    def _known(self, *agent_ids: str) -> None:
        for agent_id in agent_ids:
            if agent_id not in self._edges:
                raise UnknownAgentError(f"no agent {agent_id!r} in this network: register it first")
