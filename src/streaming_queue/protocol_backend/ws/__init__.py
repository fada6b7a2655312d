"""One multiplexed WebSocket connection a peer, JSON in every frame (docs/protocols/ws.md)."""
