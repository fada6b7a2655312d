"""The protocol new-proto for AgentNetwork Streaming Queue."""
