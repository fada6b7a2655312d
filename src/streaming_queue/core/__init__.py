"""The protocol-independent core: network, coordinator, worker, scheduling."""
