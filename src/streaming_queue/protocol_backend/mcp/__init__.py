"""The Model Context Protocol: an agent is a server, its answer the result of a tool (docs/protocols/mcp.md)."""
