"""`stq serve`: a queue, a worker or a coordinator as a process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streaming_queue.cli import completion
from streaming_queue.cli.help import epilog
from streaming_queue.cli.options import ConfigPath, Llm, Model, ProtocolName, Sets
from streaming_queue.cli.text import echo
from streaming_queue.errors import ConfigError

if TYPE_CHECKING:
    from streaming_queue.telemetry.console import Output

PAGE = "docs/processes.md"

app = typer.Typer(name="serve", help="Serve a queue, a worker or a coordinator.", rich_markup_mode=None)

LogForm = Literal["text", "json"]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on. [127.0.0.1]")]
Port = Annotated[int | None, typer.Option("--port", help="Port to listen on. [a free one]")]
AgentId = Annotated[str | None, typer.Option("--agent-id", metavar="ID", help="Id of the agent.")]
Log = Annotated[LogForm, typer.Option("--log", help="Log as text or as JSON Lines.")]


@app.command(epilog=epilog("stq serve worker --port 10001", PAGE))
def worker(
    config: ConfigPath = None,
    protocol: ProtocolName = None,
    host: Host = None,
    port: Port = None,
    agent_id: AgentId = None,
    llm: Llm = None,
    model: Model = None,
    executor: Annotated[
        str | None,
        typer.Option("--executor", metavar="MODULE:CLASS", help="Class of your own agent, with `async execute`."),
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option("--pool", metavar="ADDRESS", help="Agent that gets the questions; may be repeated."),
    ] = None,
    pool_protocol: Annotated[
        str | None,
        typer.Option(
            "--pool-protocol",
            metavar="NAME",
            help="Protocol of the pool. [that of the worker]",
            autocompletion=completion.protocols,
        ),
    ] = None,
    join: Annotated[
        str | None,
        typer.Option("--join", metavar="ADDRESS", help="Coordinator that the worker joins while it serves."),
    ] = None,
    sets: Sets = None,
    log: Log = "text",
) -> int:
    """Serve a worker, alone or in front of a pool.

    It prints its address when it is ready. On SIGTERM it finishes the questions in flight and ends with 0.
    """
    from streaming_queue.config import load_config
    from streaming_queue.runner.backends import create_backend
    from streaming_queue.runner.event_loop import run_fast
    from streaming_queue.runner.serving import serve_worker

    flags = {
        "protocol": protocol,
        "core.type": llm,
        "core.name": model,
        "qa.worker.host": host,
        "qa.worker.start_port": port,
    }
    settings = load_config(config, flags=flags, sets=sets or ())
    if pool and (executor or llm or model):
        raise ConfigError("--pool: its agents answer, so --executor, --llm and --model have no effect; leave them out")
    if pool_protocol and not pool:
        raise ConfigError("--pool-protocol: name the agents too: --pool ADDRESS")
    name = agent_id or ("Sub-1" if pool else "Worker-1")
    output = _output(log)

    async def serve() -> int:
        return await serve_worker(
            settings,
            create_backend(settings),
            agent_id=name,
            host=settings.qa.worker.host,
            port=settings.qa.worker.start_port or 0,
            output=output,
            ready=_announcer(name, settings.protocol, log),
            executor=executor,
            pool=pool or (),
            pool_protocol=pool_protocol,
            join=join,
        )

    return run_fast(serve())


@app.command(epilog=epilog("stq serve coordinator --port 9998 --worker http://127.0.0.1:10001", PAGE))
def coordinator(
    config: ConfigPath = None,
    protocol: ProtocolName = None,
    questions: Annotated[
        str | None,
        typer.Option("--questions", "-q", metavar="PATH", help="Questions of a dispatch. [bundled set]"),
    ] = None,
    worker: Annotated[
        list[str] | None,
        typer.Option("--worker", metavar="ADDRESS", help="A worker that runs already; may be repeated."),
    ] = None,
    output_dir: Annotated[
        str | None, typer.Option("--output", "-o", metavar="DIR", help="Directory of the run. [a new one each time]")
    ] = None,
    host: Host = None,
    port: Port = None,
    agent_id: AgentId = None,
    sets: Sets = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="If DIR holds an unfinished run, go on with it at once.")
    ] = False,
    log: Log = "text",
) -> int:
    """Serve a coordinator, which asks on `stq dispatch`.

    Without --worker it starts workers as a run does. It prints its address when it is ready. On SIGTERM it finishes
    the questions in flight, keeps the rest and ends with 0.
    """
    from streaming_queue.config import load_config
    from streaming_queue.report.run_directory import unfinished
    from streaming_queue.runner.runner_base import run_async
    from streaming_queue.runner.serving import CoordinatorService

    flags: dict[str, Any] = {
        "protocol": protocol,
        "qa.coordinator.data_file": questions,
        "qa.coordinator.host": host,
        "qa.coordinator.port": port,
        "qa.coordinator.coordinator_id": agent_id,
        "qa.worker.endpoints": worker,
        "output.dir": output_dir,
        "output.resume": True if resume and output_dir and unfinished(output_dir) else None,
    }
    settings = load_config(config, flags=flags, sets=sets or ())
    service = CoordinatorService(settings, output=_output(log))
    service.ready = _announcer(settings.qa.coordinator.coordinator_id, settings.control_protocol, log)
    return run_async(service)


@app.command(epilog=epilog("stq serve queue my-queue --worker http://127.0.0.1:10001", "docs/service.md"))
def queue(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the queue.")] = Path("queue"),
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="YAML file of settings.")] = None,
    protocol: ProtocolName = None,
    worker: Annotated[
        list[str] | None,
        typer.Option("--worker", metavar="ADDRESS", help="A worker that runs already; may be repeated."),
    ] = None,
    host: Host = None,
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes a free one.")] = 8080,
    llm: Llm = None,
    model: Model = None,
    sets: Sets = None,
    log: Log = "text",
) -> int:
    """Serve a queue over HTTP.

    Programs submit questions and read rows at any time. Without --worker it starts workers as a run does. Open runs go
    on after a restart. On SIGTERM it finishes the questions in flight, keeps the rest and ends with 0.
    """
    from streaming_queue.config import load_config
    from streaming_queue.runner.queue_service import QueueService
    from streaming_queue.runner.runner_base import run_async

    flags: dict[str, Any] = {
        "protocol": protocol,
        "core.type": llm,
        "core.name": model,
        "qa.worker.endpoints": worker,
    }
    settings = load_config(config, flags=flags, sets=sets or ())
    service = QueueService(settings, directory, host=host or "127.0.0.1", port=port, output=_output(log))
    service.ready = _announcer("queue", "http", log)
    return run_async(service)


def _output(log: LogForm) -> Output:
    from streaming_queue.telemetry.console import Output

    if log == "text":
        return Output()
    from streaming_queue.telemetry.json_log import JsonLog, JsonLogHandler
    from streaming_queue.telemetry.log_lines import log_to

    if sys.stderr is not None:
        log_to(JsonLogHandler(sys.stderr))
    return JsonLog()


def _announcer(agent_id: str, protocol: str, log: LogForm) -> Callable[[str], None]:
    from streaming_queue.telemetry.json_lines import JsonLines

    def announce(address: str) -> None:
        if log == "json":
            JsonLines().record({"type": "ready", "agent_id": agent_id, "protocol": protocol, "address": address})
        else:
            echo(f"{agent_id} is ready at {address}")

    return announce
