"""A run over inproc: `python -m streaming_queue.runner.run_inproc [config.yaml]`."""

from streaming_queue.runner.modules import runner_over

InprocRunner = runner_over("inproc", module=__name__)
