"""Services of others in front of a run: an API that their clients know."""
