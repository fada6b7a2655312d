"""One question to an ANP agent: a call of its method, answered by a result or by a stream of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from streaming_queue.comm.client.http import JSON, HttpExchange
from streaming_queue.comm.client.lines import EVENT_STREAM, read_events
from streaming_queue.comm.jsonrpc import agent_failure, decode_event, decode_response
from streaming_queue.messages import Reply, StreamEvent, answer_event
from streaming_queue.protocol_backend.anp.peer import Peer
from streaming_queue.protocol_backend.anp.remote_interface import read_answer


class AnpExchange(HttpExchange[Peer]):
    """A call of the method from the agent's documents."""

    async def ask(self) -> Reply:
        """The answer; `raw` is the result."""
        interface = await self.peer.interface()
        call = self.peer.new_call(interface.method, interface.params(self.payload))
        async with self.peer.call(interface.url, call) as response:
            return read_answer(await self.peer.result(response, call), self.address)

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """The events of a stream if the interface offers one, else the whole answer."""
        interface = await self.peer.interface()
        call = self.peer.new_call(interface.method, interface.params(self.payload))
        accept = f"{EVENT_STREAM}, {JSON}" if interface.streams else JSON
        async with self.peer.call(interface.url, call, accept) as response:
            if response.status != 200 or response.content_type != EVENT_STREAM:
                yield answer_event(read_answer(await self.peer.result(response, call), self.address))
                return
            async with aclosing(read_events(response, self.address)) as bodies:
                async for body in bodies:
                    event = decode_event(body, self.address)
                    if event is None:
                        result = decode_response(body, call.call_id, self.address, agent_failure)
                        event = answer_event(read_answer(result, self.address))
                    yield event

    async def cancel(self) -> None:
        """Call the agent's cancel with the key."""
        await self.peer.cancel(str(self.key))
