"""Durable queues of questions and results: one interface, several engines."""
