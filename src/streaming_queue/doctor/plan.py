"""The checks of a target: a configuration, the directory of a run, or the address of an agent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from streaming_queue.comm.commands import is_command
from streaming_queue.config import AUTO, Config, load_config, resume_config
from streaming_queue.config.trust import UnmarkedError
from streaming_queue.core.run_start import check_directory
from streaming_queue.doctor import disk, environment, extras, limits, ports, provider
from streaming_queue.doctor.agent import agent, endpoint
from streaming_queue.doctor.examination import Check, in_thread
from streaming_queue.doctor.finding import Finding, failure, ok, problem
from streaming_queue.doctor.run_directory import run_directory
from streaming_queue.errors import ConfigError
from streaming_queue.intake import is_pipe, open_source
from streaming_queue.queue.lock import owner_of
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.runner.preflight import named_protocols
from streaming_queue.runner.requirements import check_requirements


@dataclass(frozen=True, slots=True)
class Plan:
    """Checks in the order of their findings, and the secrets that no finding may show."""

    checks: tuple[Check, ...]
    secrets: tuple[str, ...]


def plan_for(
    target: str | None,
    config_path: Path | None,
    *,
    protocol: str | None = None,
    sets: Sequence[str] = (),
    trust: bool = False,
) -> Plan:
    """The checks of a target: an address is an agent, a directory a run, a file a configuration.

    `config_path` is the configuration for an address, or for no target. With `trust` the settings of a run count even
    if they act on this machine and lack this user's mark. Reads the configuration; blocks.

    Raises:
        ConfigError: the target is none of these, or does not fit the other arguments.
    """
    is_address = target is not None and ("://" in target or (is_command(target) and not Path(target).exists()))
    is_run = target is not None and not is_address and Path(target).is_dir()
    if trust and not is_run:
        raise ConfigError("--trust is for the settings in a run's directory: leave it out")
    if target is not None and is_address:
        return _agent_plan(target, config_path, protocol, sets)
    if target is not None and is_run:
        if config_path or protocol:
            raise ConfigError(f"{target} is a run, its run.json has the settings: leave out CONFIG and -p")
        return _run_plan(Path(target), sets, trust=trust)
    if target is not None and not Path(target).is_file():
        raise ConfigError(
            f"{target}: no run's directory, no file of settings, and no address, which begins with its scheme: "
            "http://127.0.0.1:9001, or stdio: before a command"
        )
    if target is not None and config_path:
        raise ConfigError(f"{target} is a file of settings already: leave out {config_path}")
    path = config_path if target is None else Path(target)
    config, found = _loaded(path, protocol, sets)
    checks = _ground()
    if config is None:
        return _plan([*checks, found], config)
    place = Path(config.output.dir or "runs")
    return _plan([*checks, Check("file system", partial(disk.disk, place)), found, *_work(config)], config)


def _agent_plan(address: str, config_path: Path | None, protocol: str | None, sets: Sequence[str]) -> Plan:
    config, found = _loaded(config_path, protocol, sets)
    checks = [*_ground(), found]
    if config is not None:
        checks.append(_agent_check(agent, "agent", address, config))
    return _plan(checks, config)


def _agent_check(check: Callable[[str, str, Config], Any], agent_id: str, address: str, config: Config) -> Check:
    """A check of an agent. A command has as much time to start as in a run."""
    return Check(
        "agent",
        partial(check, agent_id, address, config),
        float(config["mcp"]["start_timeout_s"]) if is_command(address) else 0.0,
    )


def _run_plan(path: Path, sets: Sequence[str], *, trust: bool) -> Plan:
    """A run that can be resumed needs the checks of a new run. A run that is finished or goes on does not."""
    directory = RunDirectory(path, {})
    files = (directory.manifest_path, directory.queue_path, directory.results_jsonl)
    checks = [*_ground(files), Check("file system", partial(disk.disk, path))]
    run = Check("run", partial(run_directory, path))
    try:
        manifest = RunDirectory.open(path).manifest
        if manifest["state"] == "done" or owner_of(directory.queue_path):
            return _plan([*checks, run], None)
    except (ConfigError, OSError):
        return _plan([*checks, run], None)  # the check of the run reports it
    try:
        config = resume_config(
            manifest.get("config") or {},
            path,
            sets=sets,
            run_id=manifest["run_id"],
            mark=manifest.get("mark"),
            trust=trust,
        )
    except UnmarkedError as error:
        acting = [_fixed(problem("trust", str(effect))) for effect in error.effects]
        return _plan([*checks, *acting, _fixed(failure("trust", error)), run], None)
    except ConfigError as error:
        return _plan([*checks, _fixed(failure("configuration", error)), run], None)
    return _plan([*checks, *_work(config), run], config)


def _loaded(path: Path | None, protocol: str | None, sets: Sequence[str]) -> tuple[Config | None, Check]:
    try:
        config = load_config(path, flags={"protocol": protocol}, sets=sets)
    except ConfigError as error:
        return None, _fixed(failure("configuration", error))
    worker = config.qa.worker
    workers = f"{len(config.roster)} workers, {worker.concurrency} questions at each"
    return config, _fixed(ok("configuration", f"{path or 'the defaults'}: {config.protocol}, {workers}"))


def _ground(files: Iterable[Path] = ()) -> list[Check]:
    return [
        Check("python", environment.python),
        Check("sqlite", environment.sqlite),
        Check("clock", partial(environment.clock, files)),
        Check("terminal", environment.terminal),
        Check("variables", environment.variables),
        Check("protocols", extras.protocols),
        Check("openai", extras.openai_sdk),
    ]


def _work(config: Config) -> list[Check]:
    """Checks of everything that a run with this configuration needs."""
    protocols = dict.fromkeys([config.control_protocol, *named_protocols(config).values()])
    checks = [
        *(Check("protocol", partial(extras.protocol, name)) for name in protocols),
        *([Check("auto", partial(_requirements, config))] if config.protocol == AUTO else []),
        Check("output", partial(_output, config)),
        Check("questions", partial(_questions, config)),
        Check("ports", partial(ports.ports, config)),
        Check("open files", partial(limits.open_files, config)),
    ]
    models = (config.model_copy(update={"core": core}) for core in config.answering)
    running = {worker_id: setup.address for worker_id, setup in config.roster.items() if setup.address is not None}
    return [
        *checks,
        *(Check("provider", partial(provider.provider, model)) for model in models),
        *(
            _agent_check(endpoint, worker_id, address, config.of_worker(worker_id))
            for worker_id, address in running.items()
        ),
    ]


def _requirements(config: Config) -> list[Finding]:
    check_requirements(config)
    return [ok("auto", "each protocol meets the requirements" if config.auto.required else "nothing is required")]


def _output(config: Config) -> list[Finding]:
    check_directory(config)
    return [ok("output", config.output.dir or "a new directory under runs")]


async def _questions(config: Config) -> list[Finding]:
    path = config.qa.coordinator.data_file
    if await in_thread(partial(is_pipe, path)):
        return [ok("questions", f"{path}: a pipe, which only the run reads")]
    async with await open_source(path, limit=1) as source:
        return [ok("questions", source.describe())]


def _fixed(finding: Finding) -> Check:
    """A check with a known finding."""
    return Check(finding.check, lambda: [finding])


def _plan(checks: Sequence[Check], config: Config | None, environ: Mapping[str, str] = os.environ) -> Plan:
    given: Sequence[SecretStr | None] = ()
    if config:
        keys = (core.openai_api_key for core in [config.core, *config.answering])
        given = (config.network.token, config.network.operator_token, *keys)
    secrets = {environ.get("OPENAI_API_KEY", "").strip(), *(secret.get_secret_value() for secret in given if secret)}
    return Plan(tuple(checks), tuple(secrets - {""}))
