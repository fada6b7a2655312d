"""Checks before a run starts."""

from __future__ import annotations

import asyncio

from streaming_queue.comm import registry
from streaming_queue.config import AUTO, Config
from streaming_queue.core.run_start import check_directory
from streaming_queue.errors import ConfigError
from streaming_queue.intake import is_pipe, open_source
from streaming_queue.report.summary import check_result_file
from streaming_queue.runner.requirements import check_requirements
from streaming_queue.system import check_system


async def preflight(config: Config) -> None:
    """Check system, protocol, directory, result file and source, before a socket opens or a file is written.

    With `output.strict` a source that is not a pipe is read to its end, so that no run starts with a bad line.

    Raises:
        ConfigError: one of them is unusable; the text names it and the reason.
    """
    check_system()
    await asyncio.to_thread(_load_protocols, config)
    await asyncio.to_thread(check_directory, config)
    coordinator = config.qa.coordinator
    if coordinator.result_file:
        await asyncio.to_thread(check_result_file, coordinator.result_file)
    if config.output.resume or await asyncio.to_thread(is_pipe, coordinator.data_file):
        return
    async with await open_source(coordinator.data_file, limit=1):
        pass
    if config.output.strict:
        limit = coordinator.question_limit
        async with await open_source(coordinator.data_file, strict=True, limit=limit) as source:
            async for _ in source.batches():
                pass


def named_protocols(config: Config) -> dict[str, str]:
    """The protocol of each pool and group of workers that has its own, by its place in the configuration."""
    named = {f"network.pools: {pool_id!r}": pool.protocol for pool_id, pool in config.network.pools.items()}
    named |= {f"workers[{number}]": group.protocol for number, group in enumerate(config.workers)}
    return {place: protocol for place, protocol in named.items() if protocol}


def _load_protocols(config: Config) -> None:
    registry.load(config.control_protocol)
    for place, protocol in named_protocols(config).items():
        try:
            registry.load(protocol)
        except ConfigError as error:
            raise type(error)(f"{place}: {error}") from error
    if config.protocol == AUTO:
        check_requirements(config)
