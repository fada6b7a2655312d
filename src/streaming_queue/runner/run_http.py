"""A run over http: `python -m streaming_queue.runner.run_http [config.yaml]`."""

from streaming_queue.runner.modules import runner_over

HttpRunner = runner_over("http", module=__name__)
