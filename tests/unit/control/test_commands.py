from __future__ import annotations

import inspect

import pytest

from streaming_queue.control.base import RunControl
from streaming_queue.control.commands import COMMANDS, read_arguments
from streaming_queue.errors import ProtocolError


def test_the_table_is_the_contract():
    methods = {name for name, member in vars(RunControl).items() if inspect.isfunction(member) and name[0] != "_"}
    assert set(COMMANDS) == methods
    for name, arguments in COMMANDS.items():
        parameters = list(inspect.signature(getattr(RunControl, name)).parameters.values())[1:]
        assert [parameter.name for parameter in parameters] == list(arguments)
    needed = {"add_worker": ["address"], "remove_worker": ["worker_id"], "dead_letter": ["question_id"]}
    for name, arguments in COMMANDS.items():
        assert [each for each, argument in arguments.items() if argument.default is argument.empty] == needed.get(
            name, []
        )


@pytest.mark.parametrize(
    ("command", "body", "arguments"),
    [
        ("stats", b"", {}),
        ("stats", b"{}", {}),
        ("dead_letters", b'{"reason": null, "after": 3, "limit": 10}', {"after": 3, "limit": 10}),
        ("dead_letter", b'{"question_id": "q1"}', {"question_id": "q1"}),
        ("replay", b'{"ids": ["a", "b"], "reason": "ConnectError"}', {"ids": ["a", "b"], "reason": "ConnectError"}),
        ("purge", b'{"ids": []}', {"ids": []}),
    ],
)
def test_what_may_be_given(command, body, arguments):
    assert read_arguments(command, body) == arguments


@pytest.mark.parametrize(
    ("command", "body", "reason"),
    [
        ("stats", b"not json", "not JSON"),
        ("stats", b"[]", "JSON object"),
        ("stats", b'{"x": 1}', "wrong or missing: x; it takes nothing"),
        ("dead_letters", b'{"limit": "10"}', "limit"),
        ("dead_letters", b'{"limit": true}', "limit"),
        ("dead_letter", b"{}", "question_id"),
        ("replay", b'{"ids": "q1"}', "ids"),
        ("replay", b'{"ids": [1]}', "ids"),
        ("replay", b'{"ids": ["a"], "ids": ["b"]}', "same key twice"),
    ],
)
def test_what_may_not(command, body, reason):
    with pytest.raises(ProtocolError, match=reason):
        read_arguments(command, body)
