"""A run over mcp: `python -m streaming_queue.runner.run_mcp [config.yaml]`."""

from streaming_queue.runner.runner_base import RunnerBase, main


class McpRunner(RunnerBase):
    protocol = "mcp"


if __name__ == "__main__":
    main(McpRunner)
