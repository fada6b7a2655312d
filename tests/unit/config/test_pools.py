from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st

from streaming_queue.config import Config, load_config, resume_config
from streaming_queue.config.pools import MOST_LEVELS, Hierarchy, Pool
from streaming_queue.config.redaction import redacted
from streaming_queue.errors import ConfigError

HIERARCHICAL = "network.topology=hierarchical"


def given(pools: str, *more: str) -> Config:
    return load_config(environ={}, sets=[HIERARCHICAL, f"network.pools={pools}", *more])


def spoken(config: Config) -> dict[str, str]:
    return {worker_id: setup.protocol for worker_id, setup in config.roster.items()}


def test_a_count_takes_the_next_workers_without_a_pool():
    config = given("{Sub-1: {count: 2, protocol: http}, Sub-2: [Worker-1, Worker-4], Sub-3: {count: 1}}")
    hierarchy = config.network.hierarchy
    assert hierarchy.members == {
        "Sub-1": ("Worker-2", "Worker-3"),
        "Sub-2": ("Worker-1", "Worker-4"),
        "Sub-3": ("Worker-5",),
    }
    assert hierarchy.top == ("Sub-1", "Sub-2", "Sub-3")
    assert hierarchy.workers == ("Worker-1", "Worker-2", "Worker-3", "Worker-4", "Worker-5")
    assert (config.network.pools["Sub-1"].protocol, config.network.pools["Sub-2"].protocol) == ("http", None)


def test_pools_may_be_members_and_have_workers_beside_them():
    config = given("{Top: {workers: [Left, Right], count: 1}, Left: {count: 2}, Right: [Worker-1]}")
    hierarchy = config.network.hierarchy
    assert hierarchy.top == ("Top",)
    assert hierarchy.members["Top"] == ("Left", "Right", "Worker-2")
    assert hierarchy.members["Left"] == ("Worker-3", "Worker-4")
    assert [hierarchy.leaves(agent_id) for agent_id in ("Top", "Left", "Right", "Worker-2")] == [4, 2, 1, 1]


def test_a_pool_has_the_slots_of_its_workers():
    config = given("{Top: [Sub-1], Sub-1: {count: 3}}", "qa.worker.concurrency=4")
    assert [config.slots(agent_id) for agent_id in ("Top", "Sub-1", "Worker-1")] == [12, 12, 4]
    assert Config().slots("Worker-1") == 8


def test_the_workers_of_a_run_and_how_they_are_reached():
    config = given("{Top: [A, B], A: {count: 2, protocol: ws}, B: [Worker-2]}", "protocol=http", "qa.worker.count=9")
    assert spoken(config) == {"Worker-1": "ws", "Worker-2": "http", "Worker-3": "ws"}
    assert [config.network.hierarchy.protocol_of(agent_id) for agent_id in ("Top", "A", "Worker-1")] == [
        None,
        None,
        "ws",
    ]
    assert spoken(Config.of({"qa": {"worker": {"count": 2}}})) == {"Worker-1": "a2a", "Worker-2": "a2a"}
    assert list(Config.of({"qa": {"worker": {"endpoints": ["http://a"]}}}).roster) == ["Worker-1"]


def test_a_flat_network_has_no_hierarchy():
    assert Config().network.hierarchy is None
    assert Config().network.pools == {}


def test_pools_are_settings_like_any_other():
    config = given("{Sub-1: {count: 2, protocol: http}, Sub-2: [Worker-3]}")
    for other in (
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),  # noqa: S301
        Config.of({"network": config.network}),
        Config.of({"network": config.public()["network"]}),
        Config.of({"network": redacted(config.network)}),
        resume_config(config.public(), "run", environ={}),
    ):
        assert other.network == config.network
        assert hash(other.network) == hash(config.network)


@pytest.mark.parametrize(
    ("pools", "words"),
    [
        ("[Sub-1]", "network.pools must be a mapping"),
        ("{Sub-1: }", "'Sub-1' must be a list of agents"),
        ("{Sub-1: 2}", "'Sub-1' must be a list of agents"),
        ("{Sub-1: []}", "'Sub-1' is empty: give it a count"),
        ("{Sub-1: {protocol: http}}", "'Sub-1' is empty: give it a count"),
        ("{Sub-1: {count: 0}}", "network.pools.Sub-1.count must be greater than or equal to 1"),
        ("{Sub-1: {count: 20000}}", "network.pools.Sub-1.count must be less than or equal to 10000"),
        ("{Sub-1: {conut: 2}}", "'Sub-1' has the unknown key 'conut'; did you mean count?"),
        ("{Sub-1: {workers: Worker-1}}", "network.pools.Sub-1.workers must be a list of agents"),
        ("{Sub-1: [1]}", "network.pools.Sub-1.workers[0] must be a text"),
        ("{Sub-1: {count: 1, protocol: ''}}", "network.pools.Sub-1.protocol must have at least 1 character"),
        ("{1: [Worker-1]}", "the pool's name 1 must be a text"),
        ("{'': [Worker-1]}", "a pool has no name"),
        ("{Runner: [Worker-1]}", "'Runner' is another agent's name"),
        ("{Worker-7: [Worker-1]}", "'Worker-7' is another agent's name"),
        ("{Coordinator-1: [Worker-1]}", "'Coordinator-1' is the id of the coordinator itself (qa.coordinator.coordinator_id)"),
        ("{Sub-1: [Worker_1]}", "'Sub-1' names 'Worker_1', which is neither a pool nor a worker like 'Worker-1'; did you mean 'Worker-1'?"),
        ("{Sub-1: [Sub2], Sub-2: {count: 1}}", "did you mean 'Sub-2'?"),
        ("{Sub-1: [Worker-0]}", "'Worker-0', which is neither a pool nor a worker"),
        ("{Sub-1: [Worker-01]}", "'Worker-01', which is neither a pool nor a worker"),
        ("{Sub-1: [Worker-1, Worker-1]}", "'Sub-1' names 'Worker-1' twice; an agent has one pool"),
        ("{Sub-1: [Worker-1], Sub-2: [Worker-1]}", "'Sub-2' names 'Worker-1' and so does 'Sub-1'; an agent has one pool"),
        ("{Sub-1: [Worker-1, Worker-3]}", "'Worker-2' is in no pool, but 'Worker-3' is"),
        ("{Sub-1: [Worker-900000000]}", "'Worker-1' is in no pool"),
        ("{Sub-1: [Sub-1]}", "'Sub-1' in 'Sub-1': a pool cannot be within itself"),
        ("{A: {count: 1}, B: [C], C: [D], D: [B]}", "'B' in 'D' in 'C' in 'B': a pool cannot be within itself"),
        ("null", "network.pools must not be null"),
    ],
)  # fmt: skip
def test_refused_pools(pools: str, words: str):
    with pytest.raises(ConfigError) as caught:
        given(pools)
    assert str(caught.value).startswith("-s: network.pools")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([HIERARCHICAL], "network.topology hierarchical needs network.pools, like {Sub-1: {count: 2}"),
        (
            ["network.pools={Sub-1: {count: 1}}"],
            "network.pools needs network.topology hierarchical; the topology star takes no pools",
        ),
        (
            [HIERARCHICAL, "network.pools={Sub-1: {count: 3}}", "qa.worker.endpoints=[http://a, http://b]"],
            "network.pools has 3 workers, qa.worker.endpoints 2 addresses",
        ),
        (
            [HIERARCHICAL, "network.pools={Sub-1: {count: 9}}", "qa.worker.start_port=65530"],
            "qa.worker.start_port 65530 and the 9 workers of network.pools pass port 65535",
        ),
        (
            [HIERARCHICAL, "network.pools={Boss: {count: 9}}", "qa.coordinator.coordinator_id=Boss"],
            "'Boss' is the id of the coordinator itself",
        ),
        ([HIERARCHICAL, "network.pools={Sub-1: {count: 1}}", "network.edges=[[a, b]]"], "network.edges needs"),
    ],
)
def test_pools_that_do_not_fit_the_rest(settings: list[str], words: str):
    with pytest.raises(ConfigError) as caught:
        load_config(environ={}, sets=settings)
    assert words in str(caught.value)


def test_an_error_names_the_line_of_a_wrong_pool(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("network:\n  topology: hierarchical\n  pools:\n    Sub-1: {count: 0}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:3: network\.pools\.Sub-1\.count must be"):
        load_config(path, environ={})


def test_endpoints_and_ports_that_fit_are_taken():
    assert given("{Sub-1: {count: 2}}", "qa.worker.endpoints=[http://a, http://b]").qa.worker.endpoints
    assert given("{Sub-1: {count: 6}}", "qa.worker={start_port: 65530, count: 1}").qa.worker.start_port == 65530


@pytest.mark.parametrize("levels", [MOST_LEVELS, MOST_LEVELS + 1])
def test_how_deep_pools_may_be(levels: int):
    chain = {f"S{level}": Pool(workers=(f"S{level + 1}",)) for level in range(1, levels)}
    pools = chain | {f"S{levels}": Pool(count=1)}
    if levels <= MOST_LEVELS:
        assert Hierarchy(pools).leaves("S1") == 1
    else:
        with pytest.raises(ValueError, match=f"'S9' is 9 pools deep; at most {MOST_LEVELS} are allowed"):
            Hierarchy(pools)


@st.composite
def trees(draw: st.DrawFn) -> tuple[dict[str, Pool], dict[str, int]]:
    """Pools that make a tree, in any order, and how many workers each has of its own, named or counted."""
    size = draw(st.integers(1, 8))
    ids = [f"Sub-{number}" for number in range(1, size + 1)]
    parent = {ids[index]: draw(st.sampled_from([None, *ids[:index]])) for index in range(1, size)}
    children = {pool_id: [child for child, above in parent.items() if above == pool_id] for pool_id in ids}
    own = {pool_id: draw(st.integers(0 if children[pool_id] else 1, 5)) for pool_id in ids}
    numbers = iter(draw(st.permutations(range(1, sum(own.values()) + 1))))
    pools = {}
    for pool_id in draw(st.permutations(ids)):
        named = [f"Worker-{next(numbers)}" for _ in range(draw(st.integers(0, own[pool_id])))]
        counted = own[pool_id] - len(named)
        members = draw(st.permutations(children[pool_id] + named))
        pools[pool_id] = Pool(workers=tuple(members), count=counted or None)
    return pools, own


@settings(max_examples=200, deadline=None)
@examples(trees())
def test_every_worker_is_in_exactly_one_pool_and_the_leaves_add_up(tree):
    pools, own = tree
    hierarchy = Hierarchy(pools)
    members = [member for group in hierarchy.members.values() for member in group]
    assert len(members) == len(set(members))
    assert hierarchy.workers == tuple(f"Worker-{number}" for number in range(1, sum(own.values()) + 1))
    assert sum(map(hierarchy.leaves, hierarchy.top)) == len(hierarchy.workers)
    assert sorted([*hierarchy.top, *hierarchy.parents]) == sorted([*pools, *hierarchy.workers])
    assert {*hierarchy.top, *hierarchy.parents} >= {
        *pools,
        *(member for pool in pools.values() for member in pool.workers),
    }
    for pool_id, pool in pools.items():
        assert hierarchy.members[pool_id][: len(pool.workers)] == pool.workers
        assert len(hierarchy.members[pool_id]) == len(pool.workers) + (pool.count or 0)


def tree_of(pools: dict[str, Pool]) -> Hierarchy | str:
    try:
        return Hierarchy(pools)
    except ValueError as error:
        return str(error)


@settings(max_examples=200, deadline=None)
@examples(
    st.dictionaries(
        st.sampled_from(["A", "B", "C", "D"]),
        st.builds(
            Pool,
            workers=st.lists(st.sampled_from(["A", "B", "C", "D", "Worker-1", "Worker-2"]), max_size=3).map(tuple),
            count=st.none() | st.integers(1, 2),
        ),
        min_size=1,
    )
)
def test_anything_is_a_tree_or_an_error_with_its_remedy(pools):
    made = tree_of(pools)
    if isinstance(made, str):
        assert made.startswith("network.pools: ")
        return
    seen: list[str] = []
    todo = list(made.top)
    while todo:
        agent_id = todo.pop()
        seen.append(agent_id)
        todo.extend(made.members.get(agent_id, ()))
    assert sorted(seen) == sorted([*pools, *made.workers])
