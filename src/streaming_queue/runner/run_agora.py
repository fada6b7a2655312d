"""A run over agora: `python -m streaming_queue.runner.run_agora [config.yaml]`."""

from streaming_queue.runner.runner_base import RunnerBase, main


class AgoraRunner(RunnerBase):
    protocol = "agora"


if __name__ == "__main__":
    main(AgoraRunner)
