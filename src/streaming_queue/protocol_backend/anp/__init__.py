"""The Agent Network Protocol: did:wba identities, an agent description, JSON-RPC (docs/protocols/anp.md)."""
