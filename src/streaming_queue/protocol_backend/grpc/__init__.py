"""Agents as a gRPC service of our own, `agent.proto` (docs/protocols/grpc.md)."""

import os

# The library writes to standard error what it also raises, past every log. It reads this variable at its import.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
