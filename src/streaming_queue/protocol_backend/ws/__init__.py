"""One multiplexed WebSocket connection for each agent, JSON in every frame (docs/protocols/ws.md)."""
