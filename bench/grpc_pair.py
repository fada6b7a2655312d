"""The grpc backend against its library alone: the generated stub and servicer on `grpc.aio`, by unary calls.

python bench/grpc_pair.py [requests] [in flight]
"""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc.aio
from pair import QUESTION, Ask, Close, Side, main, ours

from streaming_queue.protocol_backend.grpc import agent_pb2, agent_pb2_grpc
from streaming_queue.protocol_backend.grpc.comm import GrpcCommBackend


class Echo(agent_pb2_grpc.AgentServicer):
    async def Send(self, request: Any, context: Any) -> Any:  # noqa: N802
        del context
        return agent_pb2.Answer(text=request.text)


async def host(between: str) -> tuple[str, Close]:
    del between
    server = grpc.aio.server()
    agent_pb2_grpc.add_AgentServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return f"grpc://127.0.0.1:{port}", partial(server.stop, None)


async def client(address: str) -> tuple[Ask, Close]:
    channel = grpc.aio.insecure_channel(address.removeprefix("grpc://"))
    stub = agent_pb2_grpc.AgentStub(channel)

    async def ask(number: int) -> Any:
        del number
        return await stub.Send(agent_pb2.Message(text=QUESTION), timeout=600)

    return ask, channel.close


if __name__ == "__main__":
    main({"ours": ours(GrpcCommBackend), "raw": Side(host, client)}, crossed=True, requests=2000)
