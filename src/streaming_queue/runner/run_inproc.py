"""A run over inproc: `python -m streaming_queue.runner.run_inproc [config.yaml]`."""

from streaming_queue.runner.runner_base import RunnerBase, main


class InprocRunner(RunnerBase):
    protocol = "inproc"


if __name__ == "__main__":
    main(InprocRunner)
