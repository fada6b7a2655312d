"""What can be known to be wrong before anything starts."""

from __future__ import annotations

import asyncio

from streaming_queue.comm import registry
from streaming_queue.config import Config
from streaming_queue.intake import open_source
from streaming_queue.report.run_directory import check_target
from streaming_queue.report.summary import check_result_file


async def preflight(config: Config) -> str | None:
    """Check protocol, directory, result file and source; returns how the source is read (None: not looked at).

    A source that can be read again is read through where `strict` is asked for, so that nothing starts on a bad line.

    Raises:
        ConfigError: one of them will not do; the text says which and why.
    """
    registry.load(config.protocol)
    await asyncio.to_thread(check_target, config)
    if config.qa.coordinator.result_file:
        await asyncio.to_thread(check_result_file, config.qa.coordinator.result_file)
    path = config.qa.coordinator.data_file
    if path == "-" or config.output.resume:
        return None
    source = await open_source(path)
    if config.output.strict and source.rereadable:
        async for _ in (await open_source(path, strict=True, limit=config.question_limit)).batches(1000):
            pass
    return source.describe()
