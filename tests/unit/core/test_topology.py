from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_queue.core.topology import Topology
from streaming_queue.errors import TopologyError, UnknownAgentError


def network_of(*agents: str) -> Topology:
    topology = Topology()
    for agent in agents:
        topology.add(agent)
    return topology


def test_a_star_connects_the_center_both_ways_and_nobody_else() -> None:
    topology = network_of("C", "A", "B")
    topology.star("C")
    topology.star("C")
    assert topology.allows("C", "A")
    assert topology.allows("A", "C")
    assert not topology.allows("A", "B")
    assert topology.neighbours("C") == {"A", "B"}


def test_a_mesh_connects_everybody_but_not_an_agent_with_itself() -> None:
    topology = network_of("A", "B", "C")
    topology.mesh()
    topology.mesh()
    assert all(topology.allows(a, b) for a in "ABC" for b in "ABC" if a != b)
    assert not topology.allows("A", "A")


def test_a_mesh_of_2000_agents_stores_no_4_million_edges() -> None:
    topology = network_of(*(f"A{number}" for number in range(2000)))
    topology.mesh()
    assert len(pickle.dumps(topology)) < 1_000_000
    assert len(topology.neighbours("A7")) == 1999


def test_what_is_cut_from_a_mesh_stays_cut_until_it_is_connected_or_meshed_again() -> None:
    topology = network_of("A", "B", "C")
    topology.mesh()
    topology.disconnect("A", "B")
    assert not topology.allows("A", "B")
    assert not topology.allows("B", "A")
    assert topology.allows("A", "C")
    topology.connect("B", "A")
    assert topology.allows("A", "B")
    topology.disconnect("A", "B")
    topology.mesh()
    assert topology.allows("A", "B")


def test_an_agent_leaves_with_its_edges() -> None:
    topology = network_of("A", "B")
    topology.mesh()
    topology.add("C")
    topology.connect("B", "C")
    topology.remove("B")
    assert topology.neighbours("A") == set()
    assert topology.neighbours("C") == set()
    assert "B" not in topology


def test_mistakes_are_told() -> None:
    topology = network_of("A")
    with pytest.raises(TopologyError, match="registered already"):
        topology.add("A")
    with pytest.raises(TopologyError, match="itself"):
        topology.connect("A", "A")
    for call in (
        lambda: topology.connect("A", "X"),
        lambda: topology.disconnect("X", "A"),
        lambda: topology.remove("X"),
        lambda: topology.star("X"),
        lambda: topology.neighbours("X"),
    ):
        with pytest.raises(UnknownAgentError, match="'X'"):
            call()


AGENTS = st.sampled_from("ABCDE")
STEPS = st.one_of(
    st.tuples(st.just("connect"), AGENTS, AGENTS),
    st.tuples(st.just("disconnect"), AGENTS, AGENTS),
    st.tuples(st.just("star"), AGENTS),
    st.tuples(st.just("mesh")),
    st.tuples(st.just("remove"), AGENTS),
    st.tuples(st.just("add"), AGENTS),
)


@given(st.lists(STEPS, max_size=25))
def test_any_history_leaves_the_edges_that_a_plain_set_of_pairs_would_have(steps: list[tuple]) -> None:  # noqa: C901
    topology = network_of(*"ABCDE")
    alive, pairs = set("ABCDE"), set[frozenset[str]]()
    for name, *arguments in steps:
        if name == "mesh":
            topology.mesh()
            pairs |= {frozenset((a, b)) for a in alive for b in alive if a != b}
            continue
        if name == "add":
            if not alive.issuperset(arguments):
                topology.add(*arguments)
                alive |= set(arguments)
            continue
        if not alive.issuperset(arguments) or (len(arguments) == 2 and arguments[0] == arguments[1]):
            continue
        getattr(topology, name)(*arguments)
        if name == "connect":
            pairs.add(frozenset(arguments))
        elif name == "disconnect":
            pairs.discard(frozenset(arguments))
        elif name == "star":
            pairs |= {frozenset((arguments[0], b)) for b in alive - {arguments[0]}}
        else:
            alive -= set(arguments)
            pairs = {pair for pair in pairs if arguments[0] not in pair}
    for a in alive:
        assert topology.neighbours(a) == {b for b in alive if frozenset((a, b)) in pairs and a != b}
        for b in alive:
            assert topology.allows(a, b) == (a != b and frozenset((a, b)) in pairs)
