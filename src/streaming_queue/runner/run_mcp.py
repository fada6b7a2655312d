"""A run over mcp: `python -m streaming_queue.runner.run_mcp [config.yaml]`."""

from streaming_queue.runner.modules import runner_over

McpRunner = runner_over("mcp", module=__name__)
