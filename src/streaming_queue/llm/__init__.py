"""Where answers come from: one interface, several providers."""
