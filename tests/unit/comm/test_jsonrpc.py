from __future__ import annotations

from typing import Any

import orjson
import pytest

from streaming_queue.comm import jsonrpc
from streaming_queue.comm.jsonrpc import BadCallError, Call, agent_failure, decode_call, decode_response, encode_call
from streaming_queue.errors import ProtocolError, RateLimitedError, RemoteError, error_event


def test_a_call_comes_back_as_it_was():
    call = Call(7, "ask", {"text": "hi"})
    assert decode_call(encode_call(call)) == call


def test_a_call_that_json_cannot_hold():
    with pytest.raises(ProtocolError) as caught:
        encode_call(Call(7, "ask", {"text": object()}))
    assert caught.value.retryable is False


@pytest.mark.parametrize(
    ("body", "code", "call_id"),
    [
        (b"{", jsonrpc.PARSE_ERROR, None),
        (b'{"jsonrpc":"2.0","id":1,"id":1,"method":"ask"}', jsonrpc.PARSE_ERROR, None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ask"}]', jsonrpc.INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","method":"ask"}', jsonrpc.INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ask"}', jsonrpc.INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":1,"method":2}', jsonrpc.INVALID_REQUEST, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"ask","params":[1]}', jsonrpc.INVALID_PARAMS, 1),
    ],
)
def test_a_request_that_is_no_call(body: bytes, code: int, call_id: int | None):
    with pytest.raises(BadCallError) as caught:
        decode_call(body)
    assert (caught.value.rpc_code, caught.value.call_id) == (code, call_id)


@pytest.mark.parametrize(
    "response",
    [
        b"", b"<html>", b"[]", b"{}",
        orjson.dumps({"id": 7, "result": 1, "error": {"code": 1}}),
        orjson.dumps({"id": 8, "result": 1}),
        orjson.dumps({"id": 7, "error": "no"}),
    ],
)  # fmt: skip
def test_a_response_that_is_none(response: bytes):
    with pytest.raises(ProtocolError) as caught:
        decode_response(response, 7, "http://peer", agent_failure)
    assert caught.value.retryable is True
    assert str(caught.value).startswith("http://peer: ")


def test_a_result_beside_an_error_that_is_null():
    assert decode_response(b'{"id":7,"error":null,"result":null}', 7, "a", agent_failure) is None


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"code": jsonrpc.METHOD_NOT_FOUND}, RemoteError, False),
        ({"code": jsonrpc.INTERNAL_ERROR}, RemoteError, True),
        ({"code": "x"}, RemoteError, True),
        ({"code": jsonrpc.AGENT_ERROR, "data": error_event(RateLimitedError("slow"))}, RateLimitedError, True),
    ],
)
def test_an_agents_failure(error: dict[str, Any], kind: type[Exception], retryable: bool):
    failure = agent_failure(error, "a")
    assert (type(failure), failure.retryable) == (kind, retryable)


def test_a_protocol_has_verdicts_of_its_own():
    failure = jsonrpc.failure_of({"code": -32020, "message": "m"}, "a", "MCP", {-32020: (ProtocolError, False)})
    assert (type(failure), failure.retryable) == (ProtocolError, False)
    assert str(failure).startswith("a: MCP error -32020: 'm'")


def test_a_servers_request_is_refused_and_its_ping_answered():
    assert orjson.loads(jsonrpc.refuse_request({"id": 1, "method": "ping"}) or b"")["result"] == {}
    refused = orjson.loads(jsonrpc.refuse_request({"id": 1, "method": "sampling"}) or b"")
    assert refused["error"]["code"] == jsonrpc.METHOD_NOT_FOUND
    assert jsonrpc.refuse_request({"method": "note"}) is None
    assert jsonrpc.refuse_request({"id": 1, "result": {}}) is None
