"""A run over agora: `python -m streaming_queue.runner.run_agora [config.yaml]`."""

from streaming_queue.runner.modules import runner_over

AgoraRunner = runner_over("agora", module=__name__)
