"""AgentNetwork Streaming Queue: a durable queue in front of LLM agents that speak any protocol."""

__version__ = "0.1.0"
