"""Function calls in one process: the reference backend."""
