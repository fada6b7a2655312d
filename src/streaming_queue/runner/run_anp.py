"""A run over anp: `python -m streaming_queue.runner.run_anp [config.yaml]`."""

from streaming_queue.runner.modules import runner_over

AnpRunner = runner_over("anp", module=__name__)
