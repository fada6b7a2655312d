"""A server on the SDK, as its documentation shows, over standard input and output."""

from __future__ import annotations

import asyncio
import sys

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("clerk")


@server.tool()
async def ask(question: str, context: Context) -> str:
    """Answer a question."""
    if question == "wait":
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled", file=sys.stderr, flush=True)
            raise
    if question == "fail":
        raise ToolError("the register is empty")
    await context.report_progress(1, 2, "looking it up")
    return question


if __name__ == "__main__":
    server.run()
