from __future__ import annotations

import asyncio

import pytest
from unit.testing.test_lab import AfterTheGuide

from streaming_queue.errors import ConnectError, RateLimitedError
from streaming_queue.testing.expect import (
    UnmetError,
    eventually,
    expect,
    expect_equal,
    expect_error,
    shown,
    unmet,
    within,
)
from streaming_queue.testing.lab import Lab
from streaming_queue.testing.verdict import CHECK_BOUND_S, ContractError, holds


def test_values_are_told_harmless_and_not_too_long():
    assert shown("\x1b[2J字") == r"'\x1b[2J\u5b57'"
    assert shown("x" * 2000) == f"'{'x' * 299} ... {'x' * 299}' (2,002 characters)"
    assert shown(RateLimitedError("slow\n", retry_after_s=2.5)) == (
        r"RateLimitedError('slow\n', retryable=True, retry_after_s=2.5)"
    )


def test_texts_that_differ_are_shown_where_they_part():
    with pytest.raises(UnmetError) as caught:
        expect_equal("a" * 1000 + "X" + "b" * 1000, "a" * 1000 + "Y" + "b" * 900, "the answer")
    assert caught.value.expected == f"the answer '{'a' * 40}Y{'b' * 79}' (1901 characters; they differ from 1000 on)"
    assert caught.value.came == f"'{'a' * 40}X{'b' * 79}' (2001 characters; they differ from 1000 on)"
    with pytest.raises(UnmetError, match="they differ from 3 on"):
        expect_equal("abc", "abcd", "the answer")
    expect_equal({"a": 1}, {"a": 1}, "it")


def test_a_condition():
    expect([0], "something", "nothing")
    with pytest.raises(UnmetError, match="expected: something\ncame: nothing"):
        expect([], "something", "nothing")


async def test_an_error_of_ours_and_of_the_kind_is_expected():
    async def raises(error: Exception) -> None:
        raise error

    async def answers() -> str:
        return "Error: no"

    assert str(await expect_error(raises(ConnectError("gone")), ConnectError, within_s=1)) == "gone"
    with pytest.raises(UnmetError, match=r"came: RateLimitedError\('slow'"):
        await expect_error(raises(RateLimitedError("slow")), ConnectError, within_s=1)
    with pytest.raises(UnmetError, match=r"came: ConnectionError\('raw'\) is raised"):
        await expect_error(raises(ConnectionError("raw")), (ConnectError, ConnectionError), within_s=1)
    with pytest.raises(UnmetError, match="came: an answer: 'Error: no'"):
        await expect_error(answers(), ConnectError, within_s=1)
    with pytest.raises(UnmetError, match=r"came: nothing for 0\.05 s"):
        await expect_error(asyncio.Event().wait(), ConnectError, within_s=0.05)


async def test_what_does_not_heed_its_cancellation_is_not_waited_for():
    released = asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    with pytest.raises(UnmetError, match=r"expected: an end within 0.05 s\ncame: nothing"):
        await within(0.05, stubborn(), "an end")
    released.set()


async def test_what_comes_true_later():
    moments = iter(range(10))
    await eventually(lambda: next(moments) == 5, 1, "five", lambda: "never")
    with pytest.raises(UnmetError, match=r"expected: five within 0\.05 s\ncame: never"):
        await eventually(lambda: False, 0.05, "five", lambda: "never")


class Checks:
    @holds("send-4")
    async def unmet(self, lab: Lab) -> None:
        unmet("this", "that")

    @holds("send-4")
    async def breaks(self, lab: Lab) -> None:
        raise KeyError("x")

    @holds("send-4")
    async def cancelled(self, lab: Lab) -> None:
        raise asyncio.CancelledError

    @holds("send-4")
    async def skips(self, lab: Lab) -> None:
        pytest.skip("no reason")

    @holds("send-4")
    async def hangs(self, lab: Lab) -> None:
        await asyncio.Event().wait()

    @holds("send-4")
    async def fine(self, lab: Lab) -> None:
        return


@pytest.fixture
def lab() -> Lab:
    return Lab(AfterTheGuide(), endpoint="x://peer")


@pytest.mark.parametrize(
    ("name", "came"),
    [
        ("unmet", "  expected: this\n  came: that\n  wire: no agent was asked"),
        ("breaks", "  expected: no exception\n  came: KeyError('x')\n    in breaks, "),
        ("cancelled", "  came: a CancelledError without a cancellation"),
    ],
)
async def test_a_line_that_does_not_hold_is_reported(lab: Lab, name: str, came: str):
    with pytest.raises(ContractError) as caught:
        await getattr(Checks(), name)(lab=lab)
    assert str(caught.value).startswith('send-4 does not hold: A reply is a mapping with `"raw"` and a text')
    assert came in str(caught.value)


async def test_a_check_that_hangs_is_reported_with_its_place(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    assert CHECK_BOUND_S < 60  # the limit that many suites have
    monkeypatch.setattr("streaming_queue.testing.verdict.CHECK_BOUND_S", 0.05)
    with pytest.raises(ContractError, match=r"came: nothing for 0.05 s, at line \d+ of Checks.hangs"):
        await Checks().hangs(lab=lab)


async def test_a_skip_is_a_skip_and_no_news_is_good_news(lab: Lab):
    with pytest.raises(pytest.skip.Exception, match="no reason"):
        await Checks().skips(lab=lab)
    await Checks().fine(lab=lab)
