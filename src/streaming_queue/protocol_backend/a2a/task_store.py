"""A bounded store of tasks that callers can get again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from a2a.server.context import ServerCallContext
from a2a.server.tasks import InMemoryTaskStore
from a2a.types.a2a_pb2 import Task, TaskState

TASKS_KEPT = 256
BYTES_KEPT = 32 * 1024 * 1024

TERMINAL = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_REJECTED,
    }
)
AT_WORK = frozenset({TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING})


class Busy:
    """The keys of the work in flight; `idle` is set while there is no work."""

    def __init__(self) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self._keys: set[object] = set()

    def note(self, key: object, *, at_work: bool) -> None:
        """Add or remove a key."""
        if at_work:
            self._keys.add(key)
            self.idle.clear()
        else:
            self._keys.discard(key)
            if not self._keys:
                self.idle.set()

    @contextmanager
    def working(self) -> Iterator[None]:
        """A block of work."""
        key = object()
        self.note(key, at_work=True)
        try:
            yield
        finally:
            self.note(key, at_work=False)


class BoundedTaskStore(InMemoryTaskStore):
    """The SDK's store in memory; it removes the oldest ended tasks if there are too many.

    A task belongs to the principal that began it: other principals cannot see it. `busy` holds the running tasks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.busy = Busy()
        self._ended: OrderedDict[str, tuple[int, ServerCallContext]] = OrderedDict()
        self._bytes = 0

    async def save(self, task: Task, context: ServerCallContext) -> None:
        """Store the current state of the task."""
        await super().save(task, context)
        self.busy.note(task.id, at_work=task.status.state in AT_WORK)
        if task.status.state not in TERMINAL or task.id in self._ended:
            return
        size = task.ByteSize()
        self._ended[task.id] = (size, ServerCallContext(user=context.user))
        self._bytes += size
        while len(self._ended) > 1 and (len(self._ended) > TASKS_KEPT or self._bytes > BYTES_KEPT):
            task_id, (size, owner) = self._ended.popitem(last=False)
            self._bytes -= size
            await self.delete(task_id, owner)
