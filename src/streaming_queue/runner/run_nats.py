"""A run over nats: `python -m streaming_queue.runner.run_nats [config.yaml]`."""

from streaming_queue.runner.modules import runner_over

NatsRunner = runner_over("nats", module=__name__)
