"""One folder a protocol; each is reached by name through `comm.registry`."""
