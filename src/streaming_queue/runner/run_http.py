"""A run over http: `python -m streaming_queue.runner.run_http [config.yaml]`."""

from streaming_queue.runner.runner_base import RunnerBase, main


class HttpRunner(RunnerBase):
    protocol = "http"


if __name__ == "__main__":
    main(HttpRunner)
