"""A run over a2a: `python -m streaming_queue.runner.run_a2a [config.yaml]`."""

from streaming_queue.runner.runner_base import RunnerBase, main


class A2ARunner(RunnerBase):
    protocol = "a2a"


if __name__ == "__main__":
    main(A2ARunner)
