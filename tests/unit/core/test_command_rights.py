"""Who may command a coordinator, over each wire: a message starts no program, a worker's credential commands nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streaming_queue.comm import registry
from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import CallContext, RequestContext, calling
from streaming_queue.config import Config
from streaming_queue.core.executors import CoordinatorExecutor
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.core.qa_coordinator_base import QACoordinatorBase
from streaming_queue.errors import AuthError, ConfigError
from streaming_queue.messages import MESSAGE
from streaming_queue.protocol_backend.anp.identity import Identity
from streaming_queue.runner.backends import create_backend

ID = "Coordinator-1"
TOKEN, OPERATOR = "workers-hold-it", "operators-hold-it"

Settings = dict[str, Any]
WIRES: dict[str, Settings] = {
    "http": {"protocol": "http"},
    "a2a": {"protocol": "a2a"},
    "a2a-rest": {"protocol": "a2a", "a2a": {"binding": "HTTP+JSON"}},
    "a2a-grpc": {"protocol": "a2a", "a2a": {"grpc": True, "binding": "GRPC"}},
    "acp": {"protocol": "acp"},
    "agora": {"protocol": "agora"},
    "mcp": {"protocol": "mcp"},
    "ws": {"protocol": "ws"},
    "nats": {"protocol": "nats"},
    "grpc": {"protocol": "grpc"},
}
over_each_wire = pytest.mark.parametrize("wire", WIRES)


class Coordinator(QACoordinatorBase):
    """Begins nothing: who may give the command is the question here."""

    async def dispatch_round(self) -> str:
        return "dispatched"

    async def attach_round(self) -> str:
        return "attached"


class Stage:
    """A coordinator that has an mcp worker, hosted over `wire`; callers with credentials of their own."""

    def __init__(self, tmp_path: Path) -> None:
        self.file = tmp_path / "started"
        self.address = ""
        self.open: list[Callable[[], Any]] = []

    async def host(self, settings: Settings) -> None:
        config = Config.of(settings)
        network = NetworkBase(registry.create("mcp"))
        await network.register_agent(ID)
        await network.register_agent("Worker-1", "stdio:true")
        executor = CoordinatorExecutor(coordinator=Coordinator(config))
        executor.coordinator.set_network(network, ["Worker-1"])
        backend = create_backend(config, coordinator=ID)
        self.open += [network.close, backend.close]
        self.address = (await backend.spawn_local_agent(ID, "127.0.0.1", 0, executor)).base_url

    async def caller(self, settings: Settings, *, operator: bool = False) -> NetworkBase:
        backend = create_backend(Config.of(settings), coordinator=ID if operator else None)
        network = NetworkBase(backend)
        self.open.append(network.close)
        if self.address:
            await network.register_agent(ID, self.address)
        return network

    async def attack(self, caller: NetworkBase) -> type[Exception] | None:
        """What becomes of a join that names a program."""
        found = {await said(caller, "join", worker_address=form.format(self.file)) for form in PROGRAMS}
        found |= {await said(caller, "leave", worker_address="stdio:true")} - {"nobody leaves", "Worker-1 leaves"}
        assert not self.file.exists()
        (only,) = found
        return only

    async def close(self) -> None:
        for close in reversed(self.open):
            await close()


PROGRAMS = ("stdio:touch {}", "stdio://bin/touch {}")


@pytest.fixture
async def stage(tmp_path: Path, no_stray_tasks: None):
    stage = Stage(tmp_path)
    yield stage
    await stage.close()


async def said(caller: NetworkBase, text: str, kind: Any = "command", **metadata: Any) -> Any:
    """What a message is answered, or the class of its failure; the same whether the answer streams or not."""
    payload, answers = {"text": text, "metadata": metadata}, []
    with calling(CallContext(kind=kind)):
        reply = await caller.route_message("Runner", ID, payload)
        answers.append(type(reply["error"]) if "error" in reply else reply["text"])
        if text != "leave":
            async for event in caller.stream_message("Runner", ID, payload):
                end = event
            answers.append(type(end["error"]) if "error" in end else end["data"])
    assert len({*answers}) == 1, answers
    return answers[0]


@over_each_wire
async def test_where_nobody_has_a_credential_nobody_joins(stage: Stage, wire: str) -> None:
    await stage.host(WIRES[wire])
    caller = await stage.caller(WIRES[wire])
    assert await stage.attack(caller) is AuthError
    assert await said(caller, "dispatch", None) == "dispatched"
    assert await said(caller, "dispatch") == "dispatched"
    assert await said(caller, "attach") == "attached"
    assert await said(caller, "status") == f"{ID}: idle, 1 workers"


@over_each_wire
async def test_what_every_worker_holds_commands_nothing(stage: Stage, wire: str) -> None:
    settings = {**WIRES[wire], "network": {"token": TOKEN}}
    await stage.host({**settings, "network": {"token": TOKEN, "operator_token": OPERATOR}})
    worker = await stage.caller(settings)
    assert await stage.attack(worker) is AuthError
    assert await said(worker, "dispatch", None) is AuthError
    assert await said(worker, "dispatch", detach=True) is AuthError
    assert await said(worker, "attach") is AuthError
    assert await said(worker, "status") == f"{ID}: idle, 1 workers"
    for credential in ({}, {"token": "guess"}):
        stranger = await stage.caller({**WIRES[wire], "network": credential})
        assert await stage.attack(stranger) is AuthError
        assert await said(stranger, "status") is AuthError


@over_each_wire
async def test_an_operator_commands_and_still_starts_no_program(stage: Stage, wire: str) -> None:
    settings = {**WIRES[wire], "network": {"token": TOKEN, "operator_token": OPERATOR}}
    await stage.host(settings)
    operator = await stage.caller(settings, operator=True)
    assert await stage.attack(operator) is ConfigError
    assert await said(operator, "dispatch", None) == "dispatched"
    assert await said(operator, "attach") == "attached"


@over_each_wire
async def test_an_operator_token_alone_leaves_the_status_open(stage: Stage, wire: str) -> None:
    settings = {**WIRES[wire], "network": {"operator_token": OPERATOR}}
    await stage.host(settings)
    anybody = await stage.caller(WIRES[wire])
    assert await said(anybody, "status") == f"{ID}: idle, 1 workers"
    assert await said(anybody, "dispatch") is AuthError
    assert await stage.attack(anybody) is AuthError
    assert await said(await stage.caller({**WIRES[wire], "network": {"token": "guess"}}), "status") is AuthError
    assert await said(await stage.caller(settings, operator=True), "dispatch") == "dispatched"


@over_each_wire
async def test_a_question_to_a_coordinator_is_refused(stage: Stage, wire: str) -> None:
    await stage.host(WIRES[wire])
    caller = await stage.caller(WIRES[wire])
    assert await said(caller, "What is the capital of France?", "question") is ConfigError
    assert await said(caller, "join", None, worker_address=f"stdio:touch {stage.file}") is ConfigError
    assert await said(caller, "drain") is ConfigError
    assert not stage.file.exists()


# --- anp: a list of identities ---

ANP: Settings = {"protocol": "anp"}


async def did_of(caller: NetworkBase) -> str:
    backend: Any = caller.comm_backend
    did: str = (await backend.identity()).did
    return did


async def test_without_lists_a_process_of_this_user_dispatches_and_does_not_join(stage: Stage) -> None:
    await stage.host(ANP)
    neighbour = await stage.caller(ANP)
    assert await stage.attack(neighbour) is AuthError
    assert await said(neighbour, "dispatch") == "dispatched"


async def test_only_a_listed_identity_commands(stage: Stage) -> None:
    operator, worker = await stage.caller(ANP), await stage.caller(ANP)
    await stage.host({**ANP, "anp": {"operators": [await did_of(operator)]}})
    for caller in (operator, worker):
        await caller.register_agent(ID, stage.address)
    assert await stage.attack(worker) is AuthError
    assert await said(worker, "dispatch") is AuthError
    assert await said(worker, "status") == f"{ID}: idle, 1 workers"
    assert await stage.attack(operator) is ConfigError
    assert await said(operator, "dispatch") == "dispatched"


async def test_an_identity_that_workers_may_share_commands_nothing_but_the_process_itself_does(
    stage: Stage, tmp_path: Path
) -> None:
    await asyncio.to_thread(Identity.create("shared").save, tmp_path / "shared")
    shared = {**ANP, "anp": {"identity": str(tmp_path / "shared"), "trusted": [str(tmp_path / "shared")]}}
    await stage.host(shared)
    worker = await stage.caller(shared)
    assert await said(worker, "status") == f"{ID}: idle, 1 workers"
    assert await said(worker, "dispatch") is AuthError
    assert await stage.attack(worker) is AuthError

    own = NetworkBase(create_backend(Config.of(shared), coordinator=ID))
    stage.open.append(own.close)
    executor = CoordinatorExecutor(coordinator=Coordinator(Config.of(shared)))
    handle = await own.comm_backend.spawn_local_agent(ID, "127.0.0.1", 0, executor)
    await own.register_agent(ID, handle.base_url)
    assert await said(own, "dispatch") == "dispatched"


@pytest.mark.parametrize("entry", ["ids/boss", "*", "did:wba:"])
def test_an_operator_is_a_did(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"anp\.operators"):
        create_backend(Config.of({**ANP, "anp": {"operators": [entry]}}))


# --- what is passed on ---


class Relay:
    """A worker that asks the coordinator whatever it was asked."""

    async def execute(self, context: RequestContext, event_queue: Any) -> None:
        reply = await context.call(ID, context.payload)
        await event_queue.enqueue_event({"type": MESSAGE, "data": reply["text"]})


@pytest.mark.parametrize("text", ["dispatch", "join"])
async def test_an_agent_that_passes_a_message_on_lends_it_no_right(stage: Stage, text: str) -> None:
    settings = {"protocol": "http", "network": {"token": TOKEN, "operator_token": OPERATOR}}
    network = NetworkBase(create_backend(Config.of(settings), coordinator=ID))
    stage.open.append(network.close)
    executors: dict[str, Any] = {ID: CoordinatorExecutor(coordinator=Coordinator(settings)), "Worker-1": Relay()}
    for agent_id, executor in executors.items():
        handle = await network.comm_backend.spawn_local_agent(agent_id, "127.0.0.1", 0, executor)
        await network.register_agent(agent_id, handle.base_url)
    network.setup_mesh_topology()
    assert await said(network, "dispatch") == "dispatched"
    asker: BaseCommBackend = create_backend(Config.of({"protocol": "http", "network": {"token": TOKEN}}))
    stage.open.append(asker.close)
    await asker.register_endpoint("w", network.get_agents()["Worker-1"])
    with pytest.raises(AuthError):
        await asker.send("x", "w", {"text": text, "metadata": {"kind": "command", "worker_address": "http://h:1"}})
