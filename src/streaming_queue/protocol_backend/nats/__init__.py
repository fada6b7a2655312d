"""Request and reply on NATS subjects; a worker may have several instances (docs/protocols/nats.md)."""
