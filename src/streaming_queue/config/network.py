"""The network, the scheduler, and where a run writes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from streaming_queue.config.pools import Hierarchy, PoolsById
from streaming_queue.config.section import AtLeastOne, NotNegative, PathText, Positive, Section, Text, listed

Edge = Annotated[tuple[Text, Text], listed("a pair of agent ids, like [Coordinator-1, Worker-1]", length=2)]


class Network(Section):
    """Connections between agents, timeouts and credentials."""

    topology: Literal["star", "mesh", "custom", "hierarchical"] = "star"
    """star: the coordinator with each worker; mesh: all agents with each other; custom: the edges given;
    hierarchical: the coordinator with the pools given, each pool with its agents."""
    edges: tuple[Edge, ...] = ()
    """Pairs of connected agent ids; only with custom."""
    pools: PoolsById = Field({}, validate_default=True)
    """Pools by the id of their sub-coordinator, each a list of agents, or {count, workers, protocol}. Only with
    hierarchical."""
    health_check_interval: Positive = 5.0
    """Time between health checks of a worker, in seconds."""
    message_timeout: NotNegative = 600.0
    """Longest silence within one attempt, in seconds. 0: no limit."""
    idle_timeout_s: NotNegative = 120.0
    """Longest pause between two pieces of a streamed answer, in seconds; a heartbeat is no piece. 0: no limit."""
    allow_public: bool = False
    """Allow agents to listen on other addresses than loopback without a credential."""
    token: SecretStr | None = None
    """Bearer credential that agents started here require; messages to all agents carry it. Better given as
    STQ_NETWORK__TOKEN. Never shown."""
    operator_token: SecretStr | None = None
    """Bearer credential for commands to a coordinator: dispatch, attach, join, leave. Only messages to
    coordinators carry it. Better given as STQ_NETWORK__OPERATOR_TOKEN. Never shown."""
    require_all: bool = False
    """Begin a run only if every agent answers. false: begin with the workers that answer, and take in the others when
    they answer."""
    metrics: bool = True
    """Whether run.json has the message metrics."""

    @model_validator(mode="after")
    def _two_tokens(self) -> Self:
        if self.token is not None and self.token == self.operator_token:
            raise ValueError(
                "network.operator_token is the same as network.token, which every worker holds; make another one"
            )
        return self

    @model_validator(mode="after")
    def _topology_fits(self) -> Self:
        for topology, key, example in (
            ("custom", "edges", "[[Coordinator-1, Worker-1]]"),
            ("hierarchical", "pools", "{Sub-1: {count: 2}, Sub-2: [Worker-3]}"),
        ):
            if self.topology == topology and not self[key]:
                raise ValueError(f"network.topology {topology} needs network.{key}, like {example}")
            if self.topology != topology and self[key]:
                raise ValueError(
                    f"network.{key} needs network.topology {topology}; the topology {self.topology} takes no {key}"
                )
        Hierarchy(self.pools)
        return self

    @property
    def hierarchy(self) -> Hierarchy | None:
        """The tree of the pools, None without pools."""
        return Hierarchy(self.pools) if self.pools else None


class Scheduler(Section):
    """Attempts of a question: their number, their time, and retries at other workers."""

    max_attempts: AtLeastOne = 5
    """Attempts of a question before it becomes a dead letter."""
    attempt_timeout_s: Positive | None = 3600.0
    """Longest time of one attempt, in seconds. A limit under 60 s is exact, and the worker gets it too; a longer one
    is checked twice a second. null: as long as the worker shows signs of life."""
    question_timeout_s: Positive | None = None
    """Longest time of a question from its first attempt on, with all retries, in seconds; null: no limit."""
    no_worker_timeout_s: NotNegative = 600.0
    """Longest time that a run waits while no worker can be reached, in seconds. Then it stops; `stq resume` goes on.
    0: no limit."""
    drain_s: NotNegative = 30.0
    """Time that questions in flight have to finish when a run is stopped, in seconds."""
    lease_s: Positive = 60.0
    """Time after which a lease expires if it is not renewed, in seconds."""
    retry_base_s: Positive = 0.1
    """Longest wait before the first retry, in seconds. Each further retry doubles it."""
    retry_cap_s: Positive = 5.0
    """Longest wait before any retry, in seconds."""
    retry_share: NotNegative = 0.1
    """Retries in any ten seconds, as a share of the questions asked in that time. Further retries wait."""
    retry_per_s: NotNegative = 3.0
    """Retries per second in addition to that share."""
    hedge: bool = False
    """At the end of a run, send a question to a second worker if it takes twice as long as usual. The first answer
    counts, the other is cancelled. At most a twentieth of all questions is hedged."""
    gone_after_s: Positive = 10.0
    """Time without a sign of life after which a worker's questions go to other workers, in seconds."""

    @model_validator(mode="after")
    def _cap_above_base(self) -> Self:
        if self.retry_cap_s < self.retry_base_s:
            raise ValueError(
                f"scheduler.retry_cap_s {self.retry_cap_s:g} is below scheduler.retry_base_s {self.retry_base_s:g}"
            )
        return self


class Output(Section):
    """Where a run writes."""

    dir: PathText | None = None
    """Directory of the run; null: a new one under runs/."""
    strict: bool = False
    """Refuse the whole input for one unusable line."""
    resume: bool = False
    """Go on with the run in dir instead of starting one there."""
    source_changed: Literal["refuse", "append", "restart"] = "refuse"
    """What resume does if lines that the run has read are changed. refuse: end with an error; append: keep the rows and
    read on from the first changed line; restart: put the rows aside and begin anew."""
