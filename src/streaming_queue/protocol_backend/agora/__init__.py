"""Agora: natural language, and protocol documents that both ends know by hash (docs/protocols/agora.md)."""
