"""The runners behind `python -m streaming_queue.runner.run_<proto>`."""

from __future__ import annotations

from typing import Any

from streaming_queue.runner.mixed import MixedRunner
from streaming_queue.runner.runner_base import RunnerBase, main


def runner_over(*protocols: str, module: str) -> type[Any]:
    """The runner class of one protocol, or of a mixed network over several. It runs at once in the module `__main__`.

    `python -m` needs a file for each name, so each of our protocols has a `run_<proto>.py` that calls this function; a
    test compares the files with the registry. A plug-in needs no such file: `stq run -p NAME`.
    """
    several = len(protocols) > 1
    base: type[RunnerBase] = MixedRunner if several else RunnerBase
    runner = type(base.__name__, (base,), {"protocols": protocols} if several else {"protocol": protocols[0]})
    if module == "__main__":
        main(runner)
    return runner
