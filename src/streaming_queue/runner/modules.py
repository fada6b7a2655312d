"""What `python -m streaming_queue.runner.run_<proto>` runs."""

from __future__ import annotations

from typing import Any

from streaming_queue.runner.mixed import MixedRunner
from streaming_queue.runner.runner_base import RunnerBase, main


def runner_over(*protocols: str, module: str) -> type[Any]:
    """The runner class of one protocol, or of a mixed network over several. It runs at once in the module `__main__`.

    `python -m` needs a file for each name, so each of our protocols has a `run_<proto>.py` that calls this function; a
    test compares the files with the registry. A plug-in needs no such file: `stq run -p NAME`.
    """
    base, attributes = (
        (RunnerBase, {"protocol": protocols[0]}) if len(protocols) == 1 else (MixedRunner, {"protocols": protocols})
    )
    runner: type[RunnerBase] = type(base.__name__, (base,), attributes)
    if module == "__main__":
        main(runner)
    return runner
