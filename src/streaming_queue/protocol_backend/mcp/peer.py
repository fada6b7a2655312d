"""One server, as its peers ask it: what was agreed, the calls under way, and their cancels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.client.cancels import Cancels
from streaming_queue.comm.client.http import is_broken
from streaming_queue.comm.client.reconnect import Reconnect
from streaming_queue.comm.jsonrpc import is_response
from streaming_queue.comm.probing import StartingError
from streaming_queue.errors import (
    AgentFailedError,
    BackendClosedError,
    CommError,
    ConnectError,
    ProtocolError,
)
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.mcp.codec import (
    question_text,
    read_end,
    read_progress,
    read_result,
    write_context,
)
from streaming_queue.protocol_backend.mcp.dialect import IDEMPOTENCY_KEY, READY_KEY
from streaming_queue.protocol_backend.mcp.negotiation import negotiate
from streaming_queue.protocol_backend.mcp.session import Link, LostSessionError, Request, Session
from streaming_queue.protocol_backend.mcp.tools import Choice, Tool, choose

START_LOOK_S = 0.5
"""How long a probe waits for a command that starts: shorter than all who wait for a probe."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What holds until a failure says otherwise: a session, the tool to ask, and the others there are."""

    session: Session
    tool: Tool
    listed: list[Any]


class Question:
    """A message on its way: what is asked, what of it was told already, and the answer once it is there."""

    def __init__(self, payload: Mapping[str, Any], *, streaming: bool) -> None:
        self.text = question_text(payload)
        self.metadata: Mapping[str, Any] = payload.get("metadata") or {}
        self.streaming = streaming
        self.told = 0
        self.reply: Reply | None = None
        self.under_way: tuple[Session, Request] | None = None

    @property
    def key(self) -> str | None:
        """The idempotency key."""
        key = self.metadata.get("idempotency_key")
        return key if isinstance(key, str) else None

    @property
    def is_command(self) -> bool:
        """Whether it goes on when its sender leaves."""
        return self.metadata.get("kind") == "command"


class Peer:
    """A server and what was agreed with it, which is done once and again after a failure that may mend it."""

    def __init__(self, link: Link, choice: Choice, version: str, cancels: Cancels) -> None:
        self.link = link
        self._choice = choice
        self._version = version
        self._agreement: Agreement | None = None
        self._agreeing: asyncio.Task[Agreement] | None = None
        self._heard_of: asyncio.Task[Agreement] | None = None
        """The last failed agreement that a caller was told of."""
        self._cancels = cancels
        self._closed = False

    async def agreement(self) -> Agreement:
        """What was agreed; all who need it at once agree once.

        Raises:
            AuthError: the server refuses our credential.
            ConfigError: which of its tools is to be asked is not clear, or there is none.
            ConnectError: it is out of reach, or has no version in common with us.
        """
        if self._agreement is not None and self.link.alive:
            return self._agreement
        agreeing = self._agreeing
        if agreeing is None or (agreeing.done() and not self._is_news(agreeing)):
            agreeing = self._agreeing = asyncio.create_task(self._agree(), name=f"agree:{self.link.address}")
            agreeing.add_done_callback(_noted)
        try:
            return await asyncio.shield(agreeing)
        except asyncio.CancelledError:
            if self._closed:
                raise BackendClosedError(f"{self.link.address}: the mcp backend was closed") from None
            raise
        except Exception:
            self._heard_of = agreeing
            raise

    def _is_news(self, agreeing: asyncio.Task[Agreement]) -> bool:
        """Whether a command ended, or its time, while no caller waited: the next one is told before it runs again."""
        failed = not agreeing.cancelled() and agreeing.exception() is not None
        return self.link.lasting and failed and agreeing is not self._heard_of

    async def _agree(self) -> Agreement:
        address, patience_s = self.link.address, self.link.patience_s
        until = asyncio.get_running_loop().time() + patience_s
        session = await negotiate(self.link, self._version)
        try:
            async with asyncio.timeout_at(until):
                listed = await session.tools()
        except TimeoutError as error:
            if isinstance(error, CommError):
                raise
            said = f"{address}: does not list its tools within {patience_s:g} s{self.link.remarks}"
            raise ConnectError(said) from error
        self._agreement = Agreement(session, choose(listed, self._choice, address), listed)
        return self._agreement

    async def send(self, payload: Mapping[str, Any]) -> Reply:
        """Ask for the whole answer. Raises like `agreement` and `_call`."""
        question = Question(payload, streaming=False)
        async with aclosing(self._ask(question)) as events:
            async for _ in events:
                pass
        return _answer(question)

    async def stream(self, payload: Mapping[str, Any]) -> AsyncGenerator[StreamEvent, None]:
        """Ask, and yield progress as it comes, then the answer; after a broken connection what is new."""
        question = Question(payload, streaming=True)
        async with aclosing(self._ask(question)) as events:
            async for event in events:
                yield event
        reply = _answer(question)
        end: StreamEvent = {"type": MESSAGE, "data": reply["text"]}
        yield {**end, "metadata": reply["metadata"]} if "metadata" in reply else end

    async def _ask(self, question: Question) -> AsyncGenerator[StreamEvent, None]:
        """The progress of a question until its reply is there; leaving before that is its cancel.

        A connection that breaks is made anew where the server finds the work under way by the question's key.
        """
        try:
            agreement = await self.agreement()
            recovery = Reconnect(keyed=agreement.session.ours and question.key is not None, broken=_is_lost)
            renewed = False
            while question.reply is None:
                agreement = await self.agreement()
                try:
                    with recovery:
                        async with aclosing(self._call(agreement, question)) as events:
                            async for event in events:
                                yield event
                except LostSessionError:
                    self._forget(agreement)
                    if renewed:
                        raise
                    renewed = True
                except (ConnectError, ProtocolError):
                    self._forget(agreement)
                    raise
        except (asyncio.CancelledError, GeneratorExit):
            await self._cancel(question)
            raise

    def _forget(self, agreement: Agreement) -> None:
        """Agree anew before the next call, unless others have or the link itself tells when to."""
        if self._agreement is agreement and not self.link.lasting:
            self._agreement = None

    async def _call(self, agreement: Agreement, question: Question) -> AsyncGenerator[StreamEvent, None]:
        """The progress of one call of the tool that was not told yet; its end is the question's reply.

        Raises what the link does, and what `read_end` makes of the result.
        """
        session, tool = agreement.session, agreement.tool
        arguments = {**self._choice.arguments, tool.argument: question.text}
        request = session.request(
            "tools/call",
            {"name": tool.name, "arguments": arguments},
            meta=write_context(question.metadata),
            headers=tool.headers(arguments) if session.modern else None,
            progress=question.streaming or not session.ours,  # of others it is the only sign of life
        )
        question.under_way = (session, request)
        seen = 0
        meter = AnswerMeter(self.link.address)
        async with aclosing(self.link.exchange(request)) as messages:
            async for message in messages:
                if is_response(message):
                    question.under_way = None
                    question.reply = read_end(read_result(message, request.id, self.link.address), self.link.address)
                elif message.get("method") == "notifications/progress":
                    event = read_progress(message.get("params"), request.id)
                    if event is not None:
                        meter.take(event)
                        seen += 1
                        if seen > question.told:
                            question.told = seen
                            yield event

    async def _cancel(self, question: Question) -> None:
        """Tell the server that nobody waits for the answer any more, where it can know which; a second at the most."""
        if question.under_way is None or question.is_command:
            return
        session, request = question.under_way
        params: dict[str, Any] = {"requestId": request.id}
        if session.ours and question.key is not None:
            params["_meta"] = {IDEMPOTENCY_KEY: question.key}
        elif not self.link.finds_requests:
            return  # the connection is closed, and that is all there is to say
        await self._cancels.tell(self.link.address, partial(session.notify, "notifications/cancelled", params))

    async def probe(self) -> bool:
        """Whether the server answers in time and takes questions.

        Raises like `agreement` and what the link does, and StartingError while a command has not answered yet.
        """
        async with asyncio.timeout(self.link.probe_s):
            answer = await self._look(await self._agreement_soon())
        meta = answer.get("_meta")
        return not isinstance(meta, dict) or meta.get(READY_KEY) is not False

    async def _agreement_soon(self) -> Agreement:
        """The agreement; a command that starts is waited for a moment only. Raises StartingError after that."""
        try:
            async with asyncio.timeout(None if self.link.starting is None else START_LOOK_S) as moment:
                return await self.agreement()
        except TimeoutError as error:
            if not moment.expired():
                raise
            raise StartingError(self.link.starting or "") from error

    async def _look(self, agreement: Agreement) -> Mapping[str, Any]:
        """What the server answers to the lightest request there is."""
        try:
            return await agreement.session.call("server/discover" if agreement.session.modern else "ping")
        except (LostSessionError, ConnectError, ProtocolError):
            self._forget(agreement)
            raise

    async def describe(self) -> dict[str, Any]:
        """What the server says to people, if it answers now. Raises like `probe`."""
        agreement = await self.agreement()
        await self._look(agreement)
        session, tool = agreement.session, agreement.tool
        name, version = session.server.get("name"), session.server.get("version")
        names = [str(listed.get("name")) for listed in agreement.listed if isinstance(listed, dict)]
        facts = {
            "name": name if isinstance(name, str) else None,
            "version": version if isinstance(version, str) else None,
            "protocol": f"MCP {session.version}",
            "tool": f"{tool.name}({tool.argument})",
            "tools": ", ".join(names[:20]),
            "date": getattr(self.link, "date", None),
        }
        return {key: value for key, value in facts.items() if value is not None}

    async def close(self) -> None:
        """Give the link up; what is under way fails."""
        self._closed = True
        if self._agreeing is not None:
            self._agreeing.cancel()
            await asyncio.wait({self._agreeing})
        await self.link.close()


def _answer(question: Question) -> Reply:
    if question.reply is None:
        raise AgentFailedError("the call ended without an answer")
    return question.reply


def _is_lost(error: BaseException) -> bool:
    """Whether the connection broke under the call: there was one, and another may do."""
    return isinstance(error, ConnectError) and is_broken(error.__cause__)


def _noted(agreeing: asyncio.Task[Agreement]) -> None:
    """Look at the end of a task that everybody may have left."""
    if not agreeing.cancelled():
        agreeing.exception()
