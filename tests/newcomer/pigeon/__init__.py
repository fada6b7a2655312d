"""The protocol pigeon: one line of JSON each way, over TCP."""
