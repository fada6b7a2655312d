from __future__ import annotations

from typing import Any

import pytest

from streaming_queue.comm.client.cancels import cancel_key


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ({"idempotency_key": "k"}, "k"),
        ({"idempotency_key": "k", "kind": "question"}, "k"),
        ({"idempotency_key": "k", "kind": "command"}, None),
        ({"idempotency_key": ""}, None),
        ({"idempotency_key": 7}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_key_of_a_message(metadata: dict[str, Any] | None, key: str | None) -> None:
    assert cancel_key({"text": "?", "metadata": metadata}) == key
    if not metadata:
        assert cancel_key({"text": "?"}) is None
