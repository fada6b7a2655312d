"""A run over ws: `python -m streaming_queue.runner.run_ws [config.yaml]`."""

from streaming_queue.runner.modules import runner_over

WsRunner = runner_over("ws", module=__name__)
