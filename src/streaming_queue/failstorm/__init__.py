"""Recovery of a protocol when workers fail under load: real runs, real processes, real signals (docs/reliability.md).

Faults of the network need the extra `testing`, whose relay causes them.
"""
