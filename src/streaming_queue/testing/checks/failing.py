"""Checks of the errors of an agent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from streaming_queue.errors import ERRORS_BY_CODE, AgentFailedError, RateLimitedError, RemoteError, StreamingQueueError
from streaming_queue.messages import ERROR, STATUS
from streaming_queue.testing.executors import Agent, message
from streaming_queue.testing.expect import SLACK_S, expect, expect_equal, expect_error, unmet
from streaming_queue.testing.lab import WAYS, Lab
from streaming_queue.testing.verdict import holds

_TEXT = "too bad \u574f"
_ODD: Mapping[str, Mapping[str, Any]] = {
    "nothing": {},
    "no code": {"message": _TEXT},
    "numbers": {"code": 7, "message": 7, "retryable": 7, "retry_after_s": -7},
    "retry_after_s as a word": {"message": _TEXT, "retry_after_s": "soon"},
    "retry_after_s as NaN": {"message": _TEXT, "retry_after_s": math.nan},
    "infinite retry_after_s": {"message": _TEXT, "retry_after_s": math.inf},
    "retry_after_s over the float range": {"message": _TEXT, "retry_after_s": 10**400},
    "lists and objects": {"code": ["quota"], "message": {"a": [1]}, "retryable": {}, "retry_after_s": [1]},
    "unknown fields": {"message": None, "metadata": {"a": {1: {2}}}, "data": object()},
}
"""Fields of an executor's error event."""


async def _raise_the_class_named(context: Any, queue: Any) -> None:
    """Raise the class whose code is the question, with the opposite of the class's `retryable`."""
    await queue.enqueue_event({"type": STATUS, "data": "trying"})
    cls = ERRORS_BY_CODE[context.get_user_input()]
    raise cls(_TEXT, retryable=not cls.retryable, retry_after_s=2.25)


async def _errors(lab: Lab, way: str) -> dict[str, BaseException]:
    """The error that `way` raises for each code; an answer fails the check at once."""
    raised: dict[str, BaseException] = {}
    for code, cls in ERRORS_BY_CODE.items():
        try:
            came = await lab.ask(way, code)
        except Exception as error:
            raised[code] = error
        else:
            unmet(f"{cls.__name__} is raised by `{way}`", f"an answer: {came!a}")
    return raised


async def _same_classes(lab: Lab, way: str) -> None:
    await lab.host(Agent(_raise_the_class_named))
    raised = await _errors(lab, way)
    came = {code: type(error).__name__ for code, error in raised.items()}
    lost = {code: name for code, name in came.items() if name != ERRORS_BY_CODE[code].__name__}
    expect(not lost, ", ".join(ERRORS_BY_CODE[code].__name__ for code in lost), ", ".join(lost.values()))


class Failing:
    """Checks of the errors of an agent."""

    @holds("error-1")
    async def test_every_error_is_raised_by_send_as_itself(self, lab: Lab) -> None:
        await _same_classes(lab, "send")

    @holds("error-2")
    async def test_every_error_is_raised_by_stream_as_itself(self, lab: Lab) -> None:
        await _same_classes(lab, "stream")

    @holds("error-3")
    async def test_an_error_keeps_what_it_says(self, lab: Lab) -> None:
        await lab.host(Agent(_raise_the_class_named))
        for way in WAYS:
            for code, error in (await _errors(lab, way)).items():
                what = f"{ERRORS_BY_CODE[code].__name__} by `{way}`:"
                expect(isinstance(error, StreamingQueueError), f"{what} an error of ours", error)
                expect(_TEXT in str(error), f"{what} {_TEXT!a} in its text", error)
                expect_equal(getattr(error, "retryable", None), not ERRORS_BY_CODE[code].retryable, f"{what} retryable")
                expect_equal(getattr(error, "retry_after_s", None), 2.25, f"{what} retry_after_s")

    @holds("error-4")
    async def test_a_strangers_exception_keeps_its_text(self, lab: Lab) -> None:
        async def behave(context: Any, queue: Any) -> None:
            raise ValueError("key sk-123 is bad")

        await lab.host(Agent(behave))
        for way in WAYS:
            error = await expect_error(lab.ask(way), AgentFailedError, within_s=SLACK_S)
            expect("sk-123" not in str(error), "an error without the exception's text", error)

    @holds("error-5")
    async def test_no_answer_is_a_failure(self, lab: Lab) -> None:
        await lab.host(Agent(lambda _, queue: queue.enqueue_event({"type": STATUS, "data": "thinking"})))
        for way in WAYS:
            await expect_error(lab.ask(way), AgentFailedError, within_s=SLACK_S)

    @holds("error-6")
    async def test_a_failed_question_runs_again_under_its_key(self, lab: Lab) -> None:
        outcomes = iter([RateLimitedError("slow"), RateLimitedError("slow"), None])

        async def behave(context: Any, queue: Any) -> None:
            if error := next(outcomes):
                raise error
            await queue.enqueue_event(message("fine"))

        await lab.host(Agent(behave))
        for way in WAYS:
            await expect_error(lab.ask(way, idempotency_key="k"), RateLimitedError, within_s=SLACK_S)
        expect_equal((await lab.send(idempotency_key="k"))["text"], "fine", "the third time, the answer")

    @pytest.mark.parametrize("odd", _ODD.values(), ids=_ODD)
    @holds("error-7")
    async def test_an_odd_error_event_is_a_failure(self, lab: Lab, odd: Mapping[str, Any]) -> None:
        await lab.host(Agent(lambda _, queue: queue.enqueue_event({"type": ERROR, **odd})))
        for way in WAYS:
            error = await expect_error(lab.ask(way), RemoteError, within_s=SLACK_S)
            expect_equal(error.retry_after_s, None, f"by `{way}`, the time to wait:")
            expect_equal(error.retryable, True, f"by `{way}`, retryable:")
