from __future__ import annotations

import pytest

from streaming_queue.doctor.finding import Level, failure, ok, problem, verdict, warning
from streaming_queue.errors import AuthError, ConfigError, ConnectError, LLMError, ProtocolError, QueueError
from streaming_queue.exit_codes import ExitCode

SETTINGS, SILENT, REFUSED, OWN = (
    problem("a", "wrong", None),
    problem("b", "silent", None, ExitCode.UNAVAILABLE),
    problem("c", "refused", None, ExitCode.AUTH),
    problem("d", "broken", None, ExitCode.INTERNAL),
)


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([], 0),
        ([ok("a", "fine"), warning("b", "odd", "look")], 0),
        ([ok("a", "fine"), SETTINGS], 2),
        ([SILENT, warning("b", "odd", "look")], 69),
        ([REFUSED], 77),
        ([OWN], 1),
        ([OWN, SILENT], 69),
        ([SILENT, SETTINGS], 2),
        ([SETTINGS, SILENT, OWN, REFUSED], 77),
    ],
)
def test_the_verdict_prefers_problems_that_waiting_cannot_solve(findings, code):
    assert verdict(findings) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (AuthError("x"), 77),
        (ConnectError("x"), 69),
        (ProtocolError("x"), 69),
        (LLMError("x"), 69),
        (QueueError("x"), 69),
    ],
)
def test_an_error_is_a_problem_with_its_code(error, code):
    finding = failure("check", error, "mend it")
    assert (finding.level, finding.seen, finding.remedy, finding.code) == (Level.PROBLEM, "x", "mend it", code)
