"""The directory and the facts of a run before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streaming_queue.config import Config
from streaming_queue.config.kept_secrets import keep
from streaming_queue.config.redaction import hidden
from streaming_queue.config.trust import effects, mark_of
from streaming_queue.errors import ConfigError
from streaming_queue.llm.choice import choose
from streaming_queue.queue.lock import refuse_owned
from streaming_queue.report.run_directory import QUEUE_FILE, RunDirectory


def check_directory(config: Config) -> None:
    """Check that the directory of `config` is free. Changes nothing, blocks.

    Raises:
        ConfigError: it holds another run, or a link.
        QueueInUseError: another process works on it.
        QueueError: the disk failed.
    """
    if config.output.dir is None:
        return
    path = Path(config.output.dir)
    RunDirectory(path, {}).refuse_links()
    try:
        refuse_owned(path / QUEUE_FILE)
    except OSError as error:
        raise ConfigError(str(error)) from error
    if not config.output.resume:
        RunDirectory(path, {}).refuse_a_run()


def open_directory(config: Config) -> RunDirectory:
    """The directory of the run that `config` describes: a new directory, or the directory to resume. Blocks.

    Raises:
        ConfigError: the directory holds another run, or cannot be read or written; or the run's file in the user's
            state folder cannot be read or written.
        QueueInUseError: another process works on it.
        QueueError: the disk is full or failed.
    """
    check_directory(config)
    if config.output.resume:
        if config.output.dir is None:
            raise ConfigError("output.resume needs output.dir: the directory of the run to resume")
        directory = RunDirectory.open(config.output.dir)
        earlier = directory.manifest
        directory.manifest = {key: value for key, value in earlier.items() if key != "mark"}
        directory.manifest |= _resumed(_facts(config), earlier)
    else:
        directory = RunDirectory.create(config.output.dir, config.protocol_name, _facts(config))
    keep(directory.run_id, directory.manifest["config"], hidden(config))
    return directory


def _resumed(facts: dict[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The new facts of a resumed run: its settings and, if the model has changed, its provider."""
    facts["config"]["output"] = earlier.get("config", {}).get("output", facts["config"]["output"])
    was, now = earlier.get("provider"), facts["provider"]
    if was and now and all(was[key] == now[key] for key in ("name", "model", "mock")):
        facts["provider"] = was  # with the reason of its first choice
    return facts


def _facts(config: Config) -> dict[str, Any]:
    """The facts in `run.json` before a run begins."""
    coordinator = config.qa.coordinator
    settings = config.public()
    for key in ("data_file", "result_file"):  # a resume from another working directory finds them
        path = settings["qa"]["coordinator"][key]
        if path not in (None, "-"):
            settings["qa"]["coordinator"][key] = str(Path(path).resolve())
    mark = mark_of(effects(settings))
    return ({} if mark is None else {"mark": mark}) | {
        "config": settings,
        "seed": config.mock.seed,
        "provider": resolve_provider(config, settings),
        "source": coordinator.data_file or "bundled questions",
    }


def resolve_provider(config: Config, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The facts of the provider that answers; None if running workers answer, or several providers.

    It writes each choice into `settings`, the public settings of `config`, so that a resume chooses the same.
    """
    for group, written in zip(config.workers, settings["workers"], strict=True):
        if group.core and not group.endpoints:
            (setup, *_) = group.setups(config.protocol, config.core, None)
            written["core"]["type"] = choose(setup.core, config.mock).llm.provider
    answering = config.answering
    if config.core in answering:
        settings["core"]["type"] = choose(config.core, config.mock).llm.provider
    if len(answering) != 1 or any(setup.address is not None for setup in config.roster.values()):
        return None
    (core,) = answering
    choice = choose(core, config.mock)
    llm = choice.llm
    return {"name": llm.provider, "model": llm.model, "mock": llm.is_mock, "reason": choice.reason}
