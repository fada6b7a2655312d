"""The floor: the generated stub and servicer on `grpc.aio`, one channel a worker, the same message, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc.aio

from streaming_queue.protocol_backend.grpc import agent_pb2, agent_pb2_grpc


class Servicer(agent_pb2_grpc.AgentServicer):
    """Answers with the question."""

    async def Send(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer one message."""
        del context
        return agent_pb2.Answer(text=f"[raw] {request.text}")


def serve() -> None:
    """Serve on a free port; the address is printed once it accepts connections."""

    async def run() -> None:
        server = grpc.aio.server()
        agent_pb2_grpc.add_AgentServicer_to_server(Servicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"127.0.0.1:{port}", flush=True)
        await server.wait_for_termination()

    asyncio.run(run())


async def ask_all(addresses: Sequence[str], questions: Sequence[str], in_flight: int) -> None:
    """Ask every question once, `in_flight` at a time, workers in turn."""
    todo = iter(enumerate(questions))
    channels = [grpc.aio.insecure_channel(address) for address in addresses]
    stubs = [agent_pb2_grpc.AgentStub(channel) for channel in channels]

    async def slot() -> None:
        for number, question in todo:
            answer = await stubs[number % len(stubs)].Send(agent_pb2.Message(text=question))
            assert answer.text.endswith(question)

    await asyncio.gather(*(slot() for _ in range(in_flight)))
    await asyncio.gather(*(channel.close() for channel in channels))


if __name__ == "__main__":
    serve()
