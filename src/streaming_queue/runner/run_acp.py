"""A run over acp: `python -m streaming_queue.runner.run_acp [config.yaml]`."""

from streaming_queue.runner.modules import runner_over

AcpRunner = runner_over("acp", module=__name__)
