"""The protocol-independent middle: network, coordinator, worker, scheduling."""
