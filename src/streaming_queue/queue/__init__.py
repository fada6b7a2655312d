"""Work and results that survive: one interface, several engines."""
