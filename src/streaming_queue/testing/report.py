"""The report of the kit on a backend, line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from streaming_queue.testing.contract import KIT_VERSION, LINES, Line

Outcome = Literal["held", "failed", "skipped"]
_WORST_FIRST: tuple[Outcome, ...] = ("failed", "held", "skipped")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check. `told` is the text of a failure, or the reason for a skip."""

    line: str
    check: str
    outcome: Outcome
    told: str
    seconds: float


@dataclass(frozen=True, slots=True)
class LineResult:
    """One line: failed if one of its checks failed, else held if one held, else skipped."""

    line: Line
    checks: tuple[CheckResult, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of the line's checks."""
        outcomes = {each.outcome for each in self.checks}
        return next((outcome for outcome in _WORST_FIRST if outcome in outcomes), "skipped")

    @property
    def told(self) -> tuple[str, ...]:
        """The texts of the checks with that outcome, each once."""
        return tuple(dict.fromkeys(each.told for each in self.checks if each.outcome == self.outcome and each.told))


@dataclass(frozen=True, slots=True)
class Report:
    """The report on one backend."""

    protocol: str
    backend: str
    claims: tuple[str, ...]
    lines: tuple[LineResult, ...]
    seconds: float
    kit_version: str = KIT_VERSION

    @classmethod
    def of(
        cls,
        checks: Iterable[Mapping[str, Any]],
        *,
        protocol: str,
        backend: str,
        claims: tuple[str, ...],
        seconds: float,
    ) -> Report:
        """The report, from the collector's checks."""
        results = [CheckResult(**check) for check in checks]
        lines = tuple(LineResult(line, tuple(each for each in results if each.line == line.id)) for line in LINES)
        return cls(protocol, backend, claims, lines, seconds)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of lines by outcome."""
        found = Counter(line.outcome for line in self.lines)
        return {outcome: found[outcome] for outcome in ("held", "failed", "skipped")}

    @property
    def failed(self) -> tuple[str, ...]:
        """The ids of the lines that do not hold."""
        return tuple(each.line.id for each in self.lines if each.outcome == "failed")

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object. `told` is text for people."""
        return {
            "protocol": self.protocol,
            "backend": self.backend,
            "kit_version": self.kit_version,
            "claims": list(self.claims),
            **self.counts,
            "seconds": round(self.seconds, 3),
            "lines": [
                {
                    "id": each.line.id,
                    "section": each.line.section,
                    "text": each.line.text,
                    "outcome": each.outcome,
                    "told": list(each.told),
                    "checks": [asdict(check) for check in each.checks],
                }
                for each in self.lines
            ],
        }
