"""What another agent's documents say about how to ask it: which method, with which parameters, where. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from yarl import URL

from streaming_queue.comm.payload import encode_payload
from streaming_queue.comm.wire_errors import excerpt
from streaming_queue.errors import ConfigError, ProtocolError, RemoteError
from streaming_queue.messages import Reply, payload_text
from streaming_queue.protocol_backend.anp.description import ASK, CANCEL, STREAMS

_ANSWERS = ("text", "answer", "response", "content", "output", "result")
"""Where an answer that is an object has its text; the first that is there."""


@dataclass(frozen=True, slots=True)
class Interface:
    """How an agent is asked: `method` takes the question as the parameter `question`.

    `whole` says that the method takes a payload of ours (`text` or `parts`, `metadata`), `streams` that it can answer
    by events, `cancels` that there is a method to cancel by.
    """

    url: URL
    method: str
    question: str
    whole: bool
    streams: bool
    cancels: bool

    def params(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters for a payload. Raises ConfigError when it has neither text nor parts."""
        params = encode_payload(payload)
        if not self.whole:
            return {self.question: payload_text(payload)}
        if payload.get("metadata"):
            params["metadata"] = payload["metadata"]
        return params


def interfaces(description: Any, address: str) -> Iterator[URL | dict[str, Any]]:
    """The OpenRPC documents that an agent description names or holds. Raises ProtocolError when it is none."""
    offered = description.get("interfaces") if isinstance(description, dict) else None
    if not isinstance(offered, list):
        raise ProtocolError(f"{address}: what it describes itself with is no agent description of ANP: no interfaces")
    for each in offered:
        if not isinstance(each, dict) or str(each.get("protocol", "")).lower() != "openrpc":
            continue
        held = each.get("content", each.get("definition"))
        if isinstance(held, dict):
            yield {"servers": description.get("servers"), **held}
        elif isinstance(each.get("url"), str):
            yield _url(each["url"], address)


def read_interface(documents: Iterable[Any], address: str, wanted: str | None) -> Interface:
    """How to ask, by the agent's OpenRPC documents.

    `wanted` names the method; without, it is `ask`, else the only one that one text is enough for.

    Raises:
        ConfigError: there is no such method, or one of several has to be named (anp.method).
        ProtocolError: one is no OpenRPC, or it does not say where to call.
    """
    named = {method["name"]: method for document in documents for method in _methods(document, address)}
    fit = {name: question for name, method in named.items() if (question := _question(method)) is not None}
    name = wanted or (ASK if ASK in fit else None)
    if name is None:
        if len(fit) != 1:
            raise ConfigError(
                f"{address}: which method to ask? name it in anp.method; those that take one text: {_list(fit)}"
            )
        [name] = fit
    if name not in fit:
        raise ConfigError(f"{address}: anp.method {name!r} takes no single text here; those that do: {_list(fit)}")
    method = named[name]
    return Interface(
        url=_server(method, address),
        method=name,
        question=fit[name],
        whole={"text", "parts", "metadata"} <= {parameter["name"] for parameter in _parameters(method)},
        streams=method.get(STREAMS) is True,
        cancels=name == ASK and CANCEL in named and method.get(STREAMS) is True,
    )


def read_answer(result: Any, address: str) -> Reply:
    """The reply in a result: a text, or an object that holds one.

    Raises RemoteError when it holds an error, ProtocolError when it holds no text.
    """
    if isinstance(result, str):
        return Reply(raw=result, text=result)
    if not isinstance(result, dict):
        raise ProtocolError(f"{address}: the result is neither a text nor an object")
    if result.get("error") is not None:
        raise RemoteError(f"{address}: answered with an error{excerpt(str(result['error']).encode())}")
    for key in _ANSWERS:
        if isinstance(result.get(key), str):
            reply = Reply(raw=result, text=result[key])
            if isinstance(result.get("metadata"), dict):
                reply["metadata"] = result["metadata"]
            return reply
    raise ProtocolError(f"{address}: the result has no text; looked for {', '.join(_ANSWERS)}")


def _methods(document: Any, address: str) -> Iterator[dict[str, Any]]:
    """The methods of a document, each with its servers: its own, else the document's."""
    methods = document.get("methods") if isinstance(document, dict) else None
    if not isinstance(methods, list):
        raise ProtocolError(f"{address}: its interface is no OpenRPC document: no methods")
    for each in methods:
        if isinstance(each, dict) and isinstance(each.get("name"), str):
            yield {**each, "servers": each.get("servers") or document.get("servers")}


def _parameters(method: Mapping[str, Any]) -> list[dict[str, Any]]:
    params = method.get("params")
    found = params if isinstance(params, list) else []
    return [each for each in found if isinstance(each, dict) and isinstance(each.get("name"), str)]


def _question(method: Mapping[str, Any]) -> str | None:
    """The parameter that a question goes into: the only one that is required, else the first; it takes a text."""
    parameters = _parameters(method)
    required = [each for each in parameters if each.get("required") is True]
    if len(required) > 1 or not parameters:
        return None
    chosen = (required or parameters)[0]
    schema = chosen.get("schema")
    takes_text = isinstance(schema, dict) and schema.get("type", "string") == "string"
    return chosen["name"] if takes_text else None


def _server(method: Mapping[str, Any], address: str) -> URL:
    servers = method["servers"]
    if isinstance(servers, list) and servers and isinstance(servers[0], dict):
        return _url(servers[0].get("url"), address)
    raise ProtocolError(f"{address}: its interface does not say where its server is")


def _url(text: Any, address: str) -> URL:
    """A URL of the agent's own origin: another's is not asked on its word."""
    ours = URL(address)
    try:
        url = ours.join(URL(text)) if isinstance(text, str) else None
        trusted = url is not None and url.user is None and url.origin() == ours.origin()
    except ValueError:  # also where there is no host: file:, stdio:
        url, trusted = None, False
    if url is None or not trusted:
        raise ProtocolError(
            f"{address}: its documents name {str(text)[:200]!a}, which is not of its own origin; register that address "
            "if you trust it",
            retryable=False,
        )
    return url


def _list(names: Mapping[str, str]) -> str:
    return ", ".join(sorted(names)) or "none"
