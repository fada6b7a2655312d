"""Events out: what the core says while it works, and who listens."""
