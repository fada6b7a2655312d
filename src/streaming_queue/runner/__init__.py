"""The flow of a run, the same for every protocol."""

from streaming_queue.comm.checkout import extend_from_checkout

extend_from_checkout(__path__)
