"""The flow of a run, the same for every protocol."""
