"""The Agent Communication Protocol, REST and server-sent events (docs/protocols/acp.md)."""
