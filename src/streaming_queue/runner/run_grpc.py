"""A run over grpc: `python -m streaming_queue.runner.run_grpc [config.yaml]`."""

from streaming_queue.runner.runner_base import RunnerBase, main


class GrpcRunner(RunnerBase):
    protocol = "grpc"


if __name__ == "__main__":
    main(GrpcRunner)
