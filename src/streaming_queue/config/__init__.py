"""Every setting of a run: models, defaults, rules, and how they are loaded. It knows only `errors`."""

from streaming_queue.config.agents import QA, Coordinator, Worker
from streaming_queue.config.auto import AUTO, Auto
from streaming_queue.config.backends import A2A, Agora, Anp, BackendSection, Mcp, Nats
from streaming_queue.config.load import FLAGS, load_config
from streaming_queue.config.model import Core, Latency, Mock
from streaming_queue.config.network import Network, Output, Scheduler
from streaming_queue.config.resume import resume_config
from streaming_queue.config.root import KEYS, Config
from streaming_queue.config.section import Section
from streaming_queue.config.workers import WorkerGroup, WorkerSetup

__all__ = [
    "A2A",
    "AUTO",
    "FLAGS",
    "KEYS",
    "QA",
    "Agora",
    "Anp",
    "Auto",
    "BackendSection",
    "Config",
    "Coordinator",
    "Core",
    "Latency",
    "Mcp",
    "Mock",
    "Nats",
    "Network",
    "Output",
    "Scheduler",
    "Section",
    "Worker",
    "WorkerGroup",
    "WorkerSetup",
    "load_config",
    "resume_config",
]
