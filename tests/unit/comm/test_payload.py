from __future__ import annotations

from typing import Any

import pytest

from streaming_queue.comm.payload import decode_payload, encode_payload
from streaming_queue.errors import ConfigError, ProtocolError

PARTS = [{"kind": "text", "text": "x"}]


@pytest.mark.parametrize(
    ("payload", "document"),
    [
        ({"text": ""}, {"text": ""}),
        ({"parts": PARTS}, {"parts": PARTS}),
        ({"text": "x", "parts": PARTS}, {"text": "x"}),
    ],
)
def test_a_payload_is_encoded_without_its_metadata(payload: dict[str, Any], document: dict[str, Any]):
    assert encode_payload({**payload, "metadata": {"a": 1}}) == document
    assert decode_payload({**document, "metadata": {"a": 1}, "later": 2}) == {**document, "metadata": {"a": 1}}
    assert decode_payload({**document, "metadata": None}) == document


def test_a_payload_without_text_is_the_callers_mistake():
    with pytest.raises(ConfigError, match='"text" or "parts"'):
        encode_payload({"metadata": {}})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"text": 5},
        {"text": None, "parts": []},
        {"parts": "x"},
        {"parts": ["x"]},
        {"parts": [{"text": 5}]},
        {"text": "x", "metadata": []},
    ],
    ids=range(7),
)
def test_what_is_no_payload_is_a_lasting_protocol_error(document: dict[str, Any]):
    with pytest.raises(ProtocolError) as caught:
        decode_payload(document)
    assert caught.value.retryable is False
