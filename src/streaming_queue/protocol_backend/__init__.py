"""One folder a protocol; each is reached by name through `comm.registry`."""

from streaming_queue.comm.checkout import extend_from_checkout

extend_from_checkout(__path__)
