"""The sessions of one hosted agent: the messages of each session, as readable resources."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from streaming_queue.comm.host.idempotency_cache import ExpiringCache
from streaming_queue.comm.payload import malformed
from streaming_queue.protocol_backend.acp.codec import read_id

MAX_SESSIONS = 1000
MAX_CHARACTERS = 16 * 1024 * 1024

Owner = tuple[str | None, str]
"""Principal and session id: a session belongs to its principal."""


class Session:
    """One session: the URLs of messages at other hosts, then the messages of this host by resource id."""

    __slots__ = ("elsewhere", "messages", "size", "state")

    def __init__(self) -> None:
        self.elsewhere: list[str] = []
        self.state: str | None = None
        self.messages: dict[str, bytes] = {}
        self.size = 0


class Sessions:
    """The last sessions: at most 1000 sessions and 16 million characters; the least recently used one goes first."""

    def __init__(self) -> None:
        self._sessions = ExpiringCache[Owner, Session](MAX_SESSIONS, max_size=MAX_CHARACTERS)

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, owner: Owner, given: Mapping[str, Any] | None) -> None:
        """Open or continue a session; `given` is a session from another host. Its URLs are kept, never fetched.

        Raises ProtocolError if `given` is not a session.
        """
        session = self._sessions.get(owner) or Session()
        if given is not None:
            history, state = given.get("history") or [], given.get("state")
            if not isinstance(history, list) or not all(isinstance(url, str) for url in history):
                raise malformed('the "history" of a session must be a list of URLs')
            if state is not None and not isinstance(state, str):
                raise malformed('the "state" of a session must be a URL')
            if not session.messages:
                session.elsewhere, session.state = history, state
                session.size = sum(map(len, history))
        self._sessions.put(owner, session, session.size)

    def record(self, owner: Owner, messages: Iterable[Mapping[str, Any]]) -> None:
        """Add messages to the session, unless it was removed meanwhile."""
        session = self._sessions.get(owner)
        if session is None:
            return
        for message in messages:
            text = orjson.dumps(message)
            session.messages[str(uuid.uuid4())] = text
            session.size += len(text)
        self._sessions.put(owner, session, session.size)

    def document(self, owner: Owner, origin: str) -> dict[str, Any] | None:
        """The session in ACP's form, with its messages as URLs at `origin`; None without one, or if it was removed."""
        session = self._sessions.get(owner)
        if session is None:
            return None
        here = [f"{origin}/resources/{resource_id}" for resource_id in session.messages]
        return {"id": owner[1], "history": [*session.elsewhere, *here], "state": session.state}

    def resource(self, principal: str | None, resource_id: str) -> bytes | None:
        """A message in a session of this principal, as JSON; None if there is none, or it was removed."""
        for (owner, _), session in self._sessions.items():
            if owner == principal and (message := session.messages.get(resource_id)) is not None:
                return message
        return None


def requested_session(document: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any] | None]:
    """The id of a request's session, and the session itself if the request has it.

    Raises ProtocolError if the id is not a UUID, the session is not valid, or both ids differ.
    """
    given = document.get("session")
    if given is not None and not isinstance(given, Mapping):
        raise malformed('"session" must be an object')
    asked = [value for value in (document.get("session_id"), given and given.get("id")) if value is not None]
    ids = {read_id(value) for value in asked}
    if None in ids:
        raise malformed("the id of a session must be a UUID")
    if len(ids) > 1:
        raise malformed('"session_id" and the id of "session" differ')
    if given is not None and not ids:
        raise malformed('"session" must have an id')
    return (ids.pop() if ids else None), given
