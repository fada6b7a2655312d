"""A run over anp: `python -m streaming_queue.runner.run_anp [config.yaml]`."""

from streaming_queue.runner.runner_base import RunnerBase, main


class AnpRunner(RunnerBase):
    protocol = "anp"


if __name__ == "__main__":
    main(AnpRunner)
