"""Speed and time shares over any number of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streaming_queue.report.distribution import Distribution

METRICS = ("response_time", "queue_ms", "protocol_ms", "llm_ms", "ttft_ms")
"""The measured times of answered questions: `response_time` in seconds, the others in milliseconds."""


class _Group:
    """The rows of one worker over one protocol."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.mock_answers = 0
        self.truncated = 0
        self.protocol_ms = 0.0
        self.response_ms = 0.0
        self.values = {metric: Distribution() for metric in METRICS}

    def add(self, row: Mapping[str, Any]) -> None:
        if row["status"] != "success":
            self.failed += 1
            return
        self.answered += 1
        self.mock_answers += row["mock"] is True
        self.truncated += row.get("truncated") is True
        for metric, values in self.values.items():
            if row[metric] is not None:
                values.add(row[metric])
        if row["protocol_ms"] is not None and row["response_time"] is not None:
            self.protocol_ms += row["protocol_ms"]
            self.response_ms += row["response_time"] * 1000


class Performance:
    """Takes rows, returns figures; memory is bounded per worker (`Distribution`)."""

    def __init__(self, workers: Iterable[str] = ()) -> None:
        """`workers` are the pool's ids: a worker without an answer has figures too."""
        self._groups: dict[tuple[str | None, str | None], _Group] = {(worker, None): _Group() for worker in workers}

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of `results.jsonl`."""
        key = (row["worker"], row["protocol"])
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
        group.add(row)

    @property
    def mock_answers(self) -> int:
        """Answers of the mock provider."""
        return sum(group.mock_answers for group in self._groups.values())

    @property
    def truncated(self) -> int:
        """Answers that a limit of tokens ended."""
        return sum(group.truncated for group in self._groups.values())

    def report(self, seconds: float) -> dict[str, Any]:
        """The `performance` of results.json; `seconds` is the working time of the run.

        `overall`, each of `workers` and each of `protocols` hold answered, failed, success_share, questions_per_s,
        overhead_share and the description of each metric. `success_share` is the answered part of the ended questions,
        0 to 1, None if none ended. `overhead_share` is the protocol's part of the response time, 0 to 1, over the
        answers with a known part. `load_balance_variance` is the variance (of the population) of the answered questions
        per worker: 0 is a perfect balance; None without workers.
        """
        by_worker: dict[str, list[_Group]] = {}
        by_protocol: dict[str, list[_Group]] = {}
        for (worker, protocol), group in self._groups.items():
            if worker is not None:
                by_worker.setdefault(worker, []).append(group)
            if protocol is not None:
                by_protocol.setdefault(protocol, []).append(group)
        known: dict[tuple[_Group, ...], dict[str, Any]] = {}

        def figures(groups: Iterable[_Group]) -> dict[str, Any]:
            """The figures of `groups`, computed once: the groups of one protocol are often all groups."""
            held = tuple(group for group in groups if group.answered or group.failed)
            if held not in known:
                known[held] = _figures(held, seconds)
            return known[held].copy()

        shares = [sum(group.answered for group in groups) for groups in by_worker.values()]
        mean = sum(shares) / len(shares) if shares else 0.0
        return {
            "overall": figures(self._groups.values()),
            "workers": {worker: figures(by_worker[worker]) for worker in sorted(by_worker, key=_natural)},
            "protocols": {protocol: figures(by_protocol[protocol]) for protocol in sorted(by_protocol)},
            "load_balance_variance": sum((share - mean) ** 2 for share in shares) / len(shares) if shares else None,
        }


def _natural(name: str) -> tuple[int, str]:
    """Worker-2 before Worker-10."""
    return len(name), name


def _figures(groups: Sequence[_Group], seconds: float) -> dict[str, Any]:
    answered = sum(group.answered for group in groups)
    failed = sum(group.failed for group in groups)
    response_ms = sum(group.response_ms for group in groups)
    figures: dict[str, Any] = {
        "answered": answered,
        "failed": failed,
        "success_share": answered / (answered + failed) if answered + failed else None,
        "questions_per_s": answered / seconds if seconds > 0 else None,
        "overhead_share": sum(group.protocol_ms for group in groups) / response_ms if response_ms else None,
    }
    for metric in METRICS:
        whole = Distribution()
        for group in groups:
            whole.merge(group.values[metric])
        figures[metric] = whole.describe()
    return figures
