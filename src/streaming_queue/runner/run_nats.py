"""A run over nats: `python -m streaming_queue.runner.run_nats [config.yaml]`."""

from streaming_queue.runner.runner_base import RunnerBase, main


class NatsRunner(RunnerBase):
    protocol = "nats"


if __name__ == "__main__":
    main(NatsRunner)
