"""A run over acp: `python -m streaming_queue.runner.run_acp [config.yaml]`."""

from streaming_queue.runner.runner_base import RunnerBase, main


class AcpRunner(RunnerBase):
    protocol = "acp"


if __name__ == "__main__":
    main(AcpRunner)
