"""The interface of a remote agent from its documents: the method, its parameters, its URL. No I/O."""

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
"""The fields that may hold the text of an answer object; the first existing one counts."""


@dataclass(frozen=True, slots=True)
class Interface:
    """The interface for questions: `method` takes the question as the parameter `question`.

    `whole`: the method takes our whole payload (`text` or `parts`, `metadata`). `streams`: it can answer by events.
    `cancels`: the agent has a method for a cancel.
    """

    url: URL
    method: str
    question: str
    whole: bool
    streams: bool
    cancels: bool

    def params(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters for a payload. Raises ConfigError if it has neither text nor parts."""
        params = encode_payload(payload)
        if not self.whole:
            return {self.question: payload_text(payload)}
        if payload.get("metadata"):
            params["metadata"] = payload["metadata"]
        return params


def interfaces(description: Any, address: str) -> Iterator[URL | dict[str, Any]]:
    """The OpenRPC documents (or their URLs) in an agent description. Raises ProtocolError if it is not one."""
    offered = description.get("interfaces") if isinstance(description, dict) else None
    if not isinstance(offered, list):
        raise ProtocolError(f"{address}: this is not an agent description of ANP: no interfaces")
    for each in offered:
        if not isinstance(each, dict) or str(each.get("protocol", "")).lower() != "openrpc":
            continue
        held = each.get("content", each.get("definition"))
        if isinstance(held, dict):
            yield {"servers": description.get("servers"), **held}
        elif isinstance(each.get("url"), str):
            yield _url(each["url"], address)


def read_interface(documents: Iterable[Any], address: str, wanted: str | None) -> Interface:
    """The interface in the agent's OpenRPC documents.

    `wanted` names the method; without it, the method is `ask`, else the only method that needs just one text.

    Raises:
        ConfigError: there is no such method, or anp.method must name one of several.
        ProtocolError: a document is not OpenRPC, or has no server.
    """
    named = {method["name"]: method for document in documents for method in _methods(document, address)}
    fit = {name: question for name, method in named.items() if (question := _question(method)) is not None}
    name = wanted or (ASK if ASK in fit else None)
    if name is None:
        if len(fit) != 1:
            raise ConfigError(
                f"{address}: no method is chosen: set anp.method; methods that take one text: {_list(fit)}"
            )
        [name] = fit
    if name not in fit:
        raise ConfigError(f"{address}: the method {name!r} (anp.method) does not take one text; usable: {_list(fit)}")
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
    """The reply in a result: a text, or an object with a text.

    Raises RemoteError if the result has an error, ProtocolError if it has no text.
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
        raise ProtocolError(f"{address}: its interface is not an OpenRPC document: no methods")
    for each in methods:
        if isinstance(each, dict) and isinstance(each.get("name"), str):
            yield {**each, "servers": each.get("servers") or document.get("servers")}


def _parameters(method: Mapping[str, Any]) -> list[dict[str, Any]]:
    params = method.get("params")
    found = params if isinstance(params, list) else []
    return [each for each in found if isinstance(each, dict) and isinstance(each.get("name"), str)]


def _question(method: Mapping[str, Any]) -> str | None:
    """The parameter for a question: the only required one, else the first; it must take a text."""
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
    raise ProtocolError(f"{address}: its interface names no server")


def _url(text: Any, address: str) -> URL:
    """A URL from the agent's documents. Raises ProtocolError if it has another origin than the agent."""
    ours = URL(address)
    try:
        url = ours.join(URL(text)) if isinstance(text, str) else None
        trusted = url is not None and url.user is None and url.origin() == ours.origin()
    except ValueError:  # also where there is no host: file:, stdio:
        url, trusted = None, False
    if url is None or not trusted:
        raise ProtocolError(
            f"{address}: its documents name {str(text)[:200]!a}, which is not a URL of its own origin; register that "
            "address if you trust it",
            retryable=False,
        )
    return url


def _list(names: Mapping[str, str]) -> str:
    return ", ".join(sorted(names)) or "none"
