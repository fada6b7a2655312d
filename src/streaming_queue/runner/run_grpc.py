"""A run over grpc: `python -m streaming_queue.runner.run_grpc [config.yaml]`."""

from streaming_queue.runner.modules import runner_over

GrpcRunner = runner_over("grpc", module=__name__)
