"""Agents that speak A2A (Agent2Agent, version 1.0; 0.3 too)."""
