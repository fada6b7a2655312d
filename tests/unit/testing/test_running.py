from __future__ import annotations

import pytest

from streaming_queue.errors import StreamingQueueError, UnknownProtocolError
from streaming_queue.testing import running
from streaming_queue.testing.running import run_kit


def test_an_unknown_protocol():
    with pytest.raises(UnknownProtocolError, match="did you mean 'http'"):
        run_kit("htpp")


def test_a_process_that_dies_is_an_error_with_its_last_words():
    with pytest.raises(StreamingQueueError, match=r"(?s)ended with 7: .*::test_\w+.* goodbye$"):
        run_kit("unit.testing.dies:Dies")


def test_a_run_that_does_not_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running, "RUN_BOUND_S", 0.1)
    with pytest.raises(StreamingQueueError, match=r"did not end within 0\.1 s"):
        run_kit("inproc")
