"""Peaks of memory, as the system measures them."""

from __future__ import annotations

import json
import os

import pytest
from e2e.protocols import ALL

from streaming_queue.core.scheduling.answer_budget import BUDGET_BYTES

HUGE = """
class Huge:
    async def execute(self, context, queue):
        await queue.enqueue_event({"type": "agent_text_message", "data": "x" * 15_000_000})

    async def cancel(self, context, queue):
        pass
"""


@pytest.mark.faults
@pytest.mark.parametrize("protocol", ALL)
def test_answers_of_15_megabytes_need_no_more_than_three_times_their_budget(stq, worker, protocol: str) -> None:
    (stq.directory / "huge.py").write_text(HUGE)
    served = [worker("--executor", "huge:Huge", protocol=protocol) for _ in range(3)]
    addresses = ("-s", f"qa.worker.endpoints={json.dumps([each.address for each in served])}")
    process = stq.start("run", "-p", protocol, "-q", stq.questions(40), "-o", "run", *addresses)
    talk = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, talk
    process.returncode = 0
    with (stq.directory / "run" / "results.jsonl").open() as lines:  # a child begins with the memory of this process
        assert [len(json.loads(line)["answer"]) for line in lines] == [15_000_000] * 40
    print(f"{protocol}: {usage.ru_maxrss / 1024:.0f} MiB")
    assert usage.ru_maxrss * 1024 <= 3 * BUDGET_BYTES
