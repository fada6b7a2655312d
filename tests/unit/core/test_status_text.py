from __future__ import annotations

from typing import Any

import pytest

from streaming_queue.core.status_text import figures_of, status_text

NONE = {"done": 0, "failed": 0, "total": 0, "round_id": None}
ROUND = {"done": 7, "failed": 2, "total": 9, "round_id": "20261125-011959-f317692d", "directory": "runs/of (mine), 1"}


@pytest.mark.parametrize("figures", [*({"state": state} | NONE for state in ("idle", "running", "failed")),
                                     *({"state": state} | ROUND for state in ("running", "done", "stopped", "failed"))])  # fmt: skip
@pytest.mark.parametrize("coordinator_id", ["Coordinator-1", "a: b"])
def test_a_reader_gets_the_figures_back(figures: dict[str, Any], coordinator_id: str) -> None:
    assert figures_of(status_text(coordinator_id, figures, 2)) == figures


def test_a_paused_round_is_one_that_goes_on() -> None:
    line = status_text("C", {"state": "running"} | ROUND, 2, paused=True)
    assert "paused" in line
    assert figures_of(line) == {"state": "running"} | ROUND


@pytest.mark.parametrize("text", ["", "all is well", "round 1 done", "C: idle", "C: round 1 done, 2 workers"])
def test_any_other_text_tells_none(text: str) -> None:
    assert figures_of(text) is None
