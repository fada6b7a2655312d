"""Which tool is asked, and by which argument."""

from __future__ import annotations

from typing import Any

import pytest

from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.mcp.tools import Choice, choose, header_value

TEXT = {"type": "string"}


def tool(name: str, *required: str, **properties: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object", "properties": properties, "required": list(required)}}


ASK = tool("ask", "q", q=TEXT)
ADD = tool("add", "a", "b", a={"type": "integer"}, b={"type": "integer"})
SEARCH = tool("search", query=TEXT, limit={"type": "integer"})


@pytest.mark.parametrize(
    ("tools", "choice", "found"),
    [
        ([ASK], {}, ("ask", "q")),
        ([ADD, ASK], {}, ("ask", "q")),
        ([SEARCH, ADD], {}, ("search", "query")),
        ([ASK, SEARCH], {"tool": "search"}, ("search", "query")),
        ([tool("t", "text", "lang", text=TEXT, lang=TEXT)], {"arguments": {"lang": "de"}}, ("t", "text")),
        ([tool("t", "text", "lang", text=TEXT, lang=TEXT)], {"arguments": {"text": "x"}}, ("t", "lang")),
        ([tool("t", a=TEXT, b=TEXT)], {"argument": "b"}, ("t", "b")),
        ([tool("t", prompt=TEXT, style=TEXT)], {}, ("t", "prompt")),
        ([tool("t", anything=TEXT, n={"type": "number"})], {}, ("t", "anything")),
        ([tool("t", "q", q={"anyOf": [TEXT, {"type": "null"}]})], {}, ("t", "q")),
        ([tool("t", "q", q={"type": ["string", "null"]})], {}, ("t", "q")),
        ([tool("t", "q", q={})], {}, ("t", "q")),
        ([{"name": "t"}], {"argument": "q"}, ("t", "q")),
        ([{"name": "t", "inputSchema": "odd"}, None, {"name": 7}], {"argument": "q"}, ("t", "q")),
    ],
    ids=range(14),
)
def test_the_choice_is_clear(tools: Any, choice: Any, found: tuple[str, str]):
    chosen = choose(tools, Choice(**choice), "http://h")
    assert (chosen.name, chosen.argument) == found


@pytest.mark.parametrize(
    ("tools", "choice", "told"),
    [
        ([], {}, "no tool takes just one text: set mcp.tool .*; it has none"),
        ([ADD, ADD], {}, r"no tool takes .*; it has add\(a, b\), add\(a, b\)"),
        (
            [ADD],
            {},
            r"which argument of add\(a, b\) takes the question: set mcp.argument; .*mcp.arguments",
        ),
        ([ASK, SEARCH], {}, r"more than one tool takes .* set mcp.tool .*; it has ask\(q\), search\(query, limit\)"),
        ([ASK], {"tool": "other"}, r"no tool 'other' \(mcp.tool\); it has ask\(q\)"),
        ([tool("t", "a", "b", a=TEXT, b=TEXT)], {}, "set mcp.argument;"),
        ([tool("t", text=TEXT, query=TEXT)], {}, "set mcp.argument;"),
        ([tool("t", "n", n={"type": "integer"}, text=TEXT)], {}, "set mcp.argument;"),
        ([ASK], {"argument": "x"}, "set mcp.argument and mcp.arguments;"),
        ([tool("t", "a", "b", a=TEXT, b=TEXT)], {"argument": "a"}, "set mcp.argument and mcp.arguments;"),
        ([tool("\x1b[31m", "q", q=TEXT)], {"tool": "x"}, r"it has \\x1b\[31m\(q\)"),
    ],
    ids=range(11),
)
def test_the_choice_is_not_clear(tools: Any, choice: Any, told: str):
    with pytest.raises(ConfigError, match=rf"^http://h: .*{told}") as caught:
        choose(tools, Choice(**choice), "http://h")
    assert str(caught.value).isprintable()


def test_marks_that_are_no_headers_are_no_headers():
    for mark in ("", "a b", "x\r\ny"):
        chosen = choose([tool("t", "q", q=TEXT, r={"type": "string", "x-mcp-header": mark})], Choice(), "http://h")
        assert chosen.headers({"q": "x", "r": "y"}) == {}


@pytest.mark.parametrize(
    ("value", "header"),
    [("plain text", "plain text"), ("ü", "=?base64?w7w=?="), (" x", "=?base64?IHg=?="), ("\n", "=?base64?Cg==?=")],
)
def test_a_text_as_a_header(value: str, header: str):
    assert header_value(value) == header
    assert header_value("=?base64?eA==?=") == "=?base64?PT9iYXNlNjQ/ZUE9PT89?="
