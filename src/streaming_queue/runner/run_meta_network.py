"""A run over several protocols: `python -m streaming_queue.runner.run_meta_network [config.yaml]`."""

from streaming_queue.runner.mixed import MixedRunner, main


class MetaNetworkRunner(MixedRunner):
    protocols = ("http", "a2a", "ws", "grpc", "nats")


if __name__ == "__main__":
    main(MetaNetworkRunner)
