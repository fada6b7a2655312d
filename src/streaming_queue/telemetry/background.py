"""The end of a background task that is not awaited."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

logger = logging.getLogger(__name__)


def log_failure(task: asyncio.Task[Any]) -> None:
    """Log the error that ended `task`, at once; for `Task.add_done_callback`."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the background task %s failed", task.get_name(), exc_info=error)
