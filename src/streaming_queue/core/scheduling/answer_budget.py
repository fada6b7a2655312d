"""Bounds the memory of the answers in flight: where answers are large, fewer questions are in flight."""

from __future__ import annotations

BUDGET_BYTES = 384 * 1024 * 1024
"""The answers in flight are expected to need no more together. Copies included, they stay below three times as much."""
FIRST_BYTES = 1024 * 1024
"""The expected size before the first answer: more than 384 questions at a time wait for it."""
LEAST_BYTES = 64 * 1024
FADES = 0.9
"""What a smaller answer leaves of the expected size."""


class AnswerBudget:
    """Limits the questions in flight by the sizes of the answers so far; at least one is allowed.

    The size of an answer is unknown while its question is in flight, so the first larger answers can exceed the budget.
    """

    def __init__(self) -> None:
        self._expected = 0.0
        self._limit = BUDGET_BYTES // FIRST_BYTES
        self._refused = False

    def has_room(self, in_flight: int) -> bool:
        """Whether one more question fits besides those in flight."""
        self._refused = in_flight >= self._limit
        return not self._refused

    def answered(self, size: int) -> bool:
        """Count an answer of `size` bytes. True: a question that was refused fits now."""
        self._expected = max(size, self._expected * FADES, LEAST_BYTES)
        before, self._limit = self._limit, max(1, int(BUDGET_BYTES / self._expected))
        return self._refused and self._limit > before
