"""A run over a2a: `python -m streaming_queue.runner.run_a2a [config.yaml]`."""

from streaming_queue.runner.modules import runner_over

A2ARunner = runner_over("a2a", module=__name__)
