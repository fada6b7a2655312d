"""A run over several protocols: `python -m streaming_queue.runner.run_meta_network [config.yaml]`."""

from streaming_queue.runner.modules import runner_over

MetaNetworkRunner = runner_over("http", "a2a", "ws", "grpc", "nats", module=__name__)
