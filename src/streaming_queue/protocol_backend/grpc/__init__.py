"""Agents as our own gRPC service, `agent.proto` (docs/protocols/grpc.md)."""

import os

# The library also writes its errors to standard error, past every log. It reads this variable at its import.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
