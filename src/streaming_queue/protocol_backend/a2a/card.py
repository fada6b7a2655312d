"""Reads an agent card and chooses one of its interfaces."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from yarl import URL

from streaming_queue.comm.strict_json import read_or_none
from streaming_queue.comm.wire_errors import excerpt
from streaming_queue.errors import ProtocolError
from streaming_queue.protocol_backend.a2a.dialect import CALL_EXTENSION, V03, V1, Dialect

MAX_CARD_BYTES = 1024 * 1024

JSONRPC = "JSONRPC"
HTTP_JSON = "HTTP+JSON"
GRPC = "GRPC"
BINDINGS = (JSONRPC, HTTP_JSON, GRPC)

_GRPC_SCHEMES = {"grpc": "http", "grpcs": "https"}
_USUAL = ((JSONRPC, V1), (HTTP_JSON, V1), (JSONRPC, V03))


@dataclass(frozen=True, slots=True)
class Card:
    """The chosen interface, and the declared capabilities. `own_origin`: we may send the credential there."""

    url: URL
    binding: str
    dialect: Dialect
    streaming: bool
    call_extension: bool
    tenant: str | None
    own_origin: bool


def read_card(body: bytes, address: URL, trusted_origins: Collection[URL] = (), preferred: str = JSONRPC) -> Card:
    """The card in `body`, served at `address`, with the interface of the `preferred` binding, else the next one.

    An interface must be at the card's own origin, under any name of this machine, or at one of `trusted_origins`. gRPC
    always has another port: we use it only if it is preferred and at the card's own host, with TLS if the card was read
    with TLS.

    Raises:
        ProtocolError: it is not a card, or has no usable interface; the text lists its interfaces.
    """
    document = read_or_none(body)
    if not isinstance(document, Mapping):
        raise ProtocolError(f"{address}: its agent card is not a JSON object{excerpt(body)}")
    offered = list(_interfaces(document))
    refused = ""
    for binding, dialect in ((preferred, V1), *_USUAL):
        for url_text, its_binding, version, tenant in offered:
            if its_binding != binding or not _speaks(version, dialect):
                continue
            url, own = _place(url_text, binding, address, trusted_origins)
            if url is None:
                refused = f"; {url_text[:200]!a} is at another origin: add it to trusted_origins, or register it"
                continue
            return Card(url, binding, dialect, *_abilities(document), tenant=tenant, own_origin=own)
    has = ", ".join(f"{binding[:40]!a} {version[:20]!a}" for _, binding, version, _ in offered[:10]) or "none at all"
    raise ProtocolError(
        f"{address}: its agent card has no usable interface: it offers {has}; "
        f"known are JSONRPC 1.0, HTTP+JSON 1.0, JSONRPC 0.3, and GRPC 1.0 where a2a.binding asks for it{refused}"
    )


def about(body: bytes, card: Card) -> dict[str, Any]:
    """The facts for people from the card in `body`; `card` is the same card, parsed."""
    document = orjson.loads(body)
    offered = dict.fromkeys(f"{binding} {version}" for _, binding, version, _ in _interfaces(document))
    return {
        "name": document.get("name"),
        "version": document.get("version"),
        "interfaces": list(offered),
        "used": f"{card.binding} {card.dialect.version} at {card.url}",
        "streaming": card.streaming,
        "call extension": card.call_extension,
    }


def _interfaces(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str | None]]:
    """URL, binding, version and tenant of each interface: first 1.0, then 0.3."""
    listed = document.get("supportedInterfaces")
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, Mapping):
            tenant = item.get("tenant")
            yield (
                str(item.get("url")),
                str(item.get("protocolBinding")),
                str(item.get("protocolVersion") or V1.version),
                tenant if isinstance(tenant, str) and tenant else None,
            )
    if not isinstance(document.get("url"), str):
        return
    version = str(document.get("protocolVersion") or V03.version)
    yield document["url"], str(document.get("preferredTransport") or JSONRPC), version, None
    further = document.get("additionalInterfaces")
    for item in further if isinstance(further, list) else ():
        if isinstance(item, Mapping):
            yield str(item.get("url")), str(item.get("transport")), version, None


def _speaks(version: str, dialect: Dialect) -> bool:
    """Whether an interface of this version understands the dialect: any 1.x, but of 0.x only 0.3."""
    if dialect is V1:
        return version.partition(".")[0] == "1"
    return version == V03.version or version.startswith(f"{V03.version}.")


def _place(text: str, binding: str, address: URL, trusted_origins: Collection[URL]) -> tuple[URL | None, bool]:
    """The interface's URL, and whether it has the card's own origin; None if its origin is not allowed.

    gRPC may have any port; its address is `host:port`, or a URL whose scheme says whether to use TLS.
    """
    if by_grpc := binding == GRPC:
        scheme, separator, rest = text.rpartition("://")
        text = f"{_GRPC_SCHEMES.get(scheme, scheme) if separator else address.scheme}://{rest}"
    try:
        url = URL(text)
        origin = url.origin()
    except ValueError:
        return None, False
    if url.scheme not in ("http", "https") or (url.user is not None and not by_grpc):
        return None, False
    own = address.origin()
    if by_grpc:
        url = origin
    if origin.scheme == own.scheme and (by_grpc or origin.port == own.port):
        if origin.host == own.host:
            return url, True
        if _is_here(origin.host) and _is_here(own.host):
            return url.with_host(own.host or ""), True
    return (url, False) if origin in trusted_origins else (None, False)


def _is_here(host: str | None) -> bool:
    """Whether a host name means the local machine: the cards of demos have 0.0.0.0 or localhost."""
    if host is None or host == "localhost":
        return host is not None
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    return ip.is_loopback or ip.is_unspecified


def _abilities(document: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether the agent streams, and whether it declares our extension."""
    capabilities = document.get("capabilities")
    if not isinstance(capabilities, Mapping):
        return False, False
    extensions = capabilities.get("extensions")
    known = isinstance(extensions, list) and any(
        isinstance(item, Mapping) and item.get("uri") == CALL_EXTENSION for item in extensions
    )
    return capabilities.get("streaming") is True, known
