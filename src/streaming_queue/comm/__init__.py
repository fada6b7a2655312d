"""The contract between the core and every protocol."""
