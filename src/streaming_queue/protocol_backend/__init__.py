"""One folder for each protocol; `comm.registry` finds them by name."""

from streaming_queue.comm.checkout import extend_from_checkout

extend_from_checkout(__path__)
