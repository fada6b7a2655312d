"""Each backend of `broken/` breaks one rule in one way; the kit finds that, and nothing that has not to do with it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from streaming_queue.testing.report import LineResult, Report
from streaming_queue.testing.running import run_kit

BROKEN = {
    "answers:AltersText": {"send-1"},
    "answers:SwapsAnswers": {"send-3"},
    "answers:AnswersWithErrors": {
        *(
            "send-6",
            "address-1",
            "error-1",
            "error-3",
            "error-4",
            "error-5",
            "error-6",
            "error-7",
            "fault-1",
            "repeat-3",
        ),
        *("host-4", "host-5", "host-6", "close-1", "close-2"),
    },
    "answers:TakesHalfForTheWhole": {"fault-1", "fault-2", "fault-3"},
    "answers:CutsLongAnswers": {"send-6"},
    "answers:WantsWholeErrors": {"error-7"},
    "answers:TakesAnyNumberOfValues": {"send-7"},
    "answers:CutsLongQuestions": {"send-8"},
    "errors:LosesTheClass": {"error-1", "error-2", "error-6"},
    "errors:DropsRetryAfter": {"error-3"},
    "errors:TellsEverything": {"error-4"},
    "errors:LosesUnknownAgents": {"address-1"},
    "errors:TakesAnyScheme": {"address-2"},
    "errors:LetsTheLibrarySpeak": {"fault-1", "fault-2", "fault-3", "fault-7", "health-5", "close-1"},
    "streams:StreamsOutOfOrder": {"stream-1"},
    "streams:EndsTwice": {"stream-1", "stream-2", "stream-3", "stream-8"},
    "streams:ClaimsToStream": {
        *("claim-1", "stream-1", "stream-2", "stream-5", "stream-6", "stream-8", "cancel-2", "metadata-5"),
    },
    "streams:CountsTheEndToo": {"stream-8"},
    "streams:HoldsPiecesBack": {"stream-2", "stream-6", "cancel-2"},
    "leavers:IgnoresCancel": {"cancel-1", "cancel-5"},
    "leavers:CancelsCommands": {"cancel-3", "metadata-1"},
    "leaks:LeaksTasks": {"cancel-5", "leak-1"},
    "leaks:LeaksSockets": {"leak-1"},
    "leaks:LeaksThreads": {"leak-1"},
    "ends:CloseHangs": {"close-1", "close-2"},
    "ends:HealthyAfterStop": {"fault-1", "health-2", "host-6"},
    "ends:ProbesForEver": {"health-4"},
    "ends:CallsRefusalsSilence": {"credential-1"},
    "ends:KeepsAnsweringWhenClosed": {"close-1", "close-2"},
    "ends:KeepsThePort": {"host-2", "host-3"},
    "riders:SwallowsMetadata": {"metadata-3"},
    "riders:ForgetsTheDeadline": {"metadata-2"},
    "riders:RunsTwice": {"metadata-1", "repeat-1", "repeat-2", "repeat-3"},
}
"""Backend -> every line that it breaks."""


SOME = ("answers:TakesHalfForTheWhole", "streams:ClaimsToStream")
"""`tests/compat` runs the others."""


@pytest.mark.timeout(240)  # two runs of the whole kit
def test_what_is_broken_is_found() -> None:
    reports = run_each(SOME)
    assert_the_wire_is_shown(reports["answers:TakesHalfForTheWhole"])
    assert_the_claim_is_shown(reports["streams:ClaimsToStream"])


def run_each(names: Iterable[str]) -> dict[str, Report]:
    """Run the kit over these, and hold it to what it has to find; returns what it reported."""
    wanted = list(names)
    with ThreadPoolExecutor(4) as pool:  # most of a run is waiting for limits to pass
        ran = pool.map(lambda name: run_kit(f"conformance.broken.{name}"), wanted)
        reports = dict(zip(wanted, ran, strict=True))
    assert {name: set(report.failed) for name, report in reports.items()} == {name: BROKEN[name] for name in wanted}
    for name, report in reports.items():
        assert report.counts["held"] + report.counts["failed"] > 45, name
        for line in report.lines:
            if line.outcome == "failed":
                assert_is_a_report(line)
    return reports


def assert_is_a_report(line: LineResult) -> None:
    for told in line.told:
        first, expected, came, *seen = told.splitlines()
        assert first.startswith(f"{line.line.id} does not hold: {line.line.text}")
        assert expected.startswith("  expected: ")
        assert came.startswith("  came: ")
        assert any(each.startswith("  wire") for each in seen)


def assert_the_wire_is_shown(report: Report) -> None:
    (line,) = (line for line in report.lines if line.line.id == "fault-2")
    (told,) = line.told
    assert "expected: ConnectError is raised" in told
    assert "came: an answer: ''" in told
    assert "wire to 'w' at http://127.0.0.1:" in told
    assert "POST /message HTTP/1.1" in told
    assert "wire from 'w': " in told


def assert_the_claim_is_shown(report: Report) -> None:
    lines = {line.line.id: line for line in report.lines}
    assert "(the backend claims host, streaming)" in lines["stream-2"].told[0]
    assert "came: the base's" in lines["claim-1"].told[0]
