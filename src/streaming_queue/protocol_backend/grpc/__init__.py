"""Agents as a gRPC service of our own, `agent.proto` (docs/protocols/grpc.md)."""

import os

# The library tells standard error, past every log, what it also raises; it reads this when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
