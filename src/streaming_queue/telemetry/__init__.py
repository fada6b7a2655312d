"""Events of the core, and their listeners."""
