"""A run over ws: `python -m streaming_queue.runner.run_ws [config.yaml]`."""

from streaming_queue.runner.runner_base import RunnerBase, main


class WsRunner(RunnerBase):
    protocol = "ws"


if __name__ == "__main__":
    main(WsRunner)
