"""A queue's record in memory, for tests of what reads it."""

from __future__ import annotations

from streaming_queue.messages import Counts, Failure, Outcome, Question, Result


class Record:
    """`results`, `revision`, `counts`, `stats` of a `WorkQueue`, and the means to change them."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.number = 0
        self.taken_back = 0
        self.reads = 0

    def end(
        self,
        question_id: str,
        answer: str | None = "42",
        *,
        worker: str = "Worker-1",
        protocol: str = "a2a",
        **figures,
    ) -> Outcome:
        self.number += 1
        figures = {
            "response_time_s": 0.25,
            "queue_ms": 1.5,
            "protocol_ms": 2.5,
            "llm_ms": 247.5,
            "ttft_ms": None,
        } | figures
        outcome = Outcome(
            number=self.number,
            question=Question(f"What is {question_id}?", id=question_id),
            attempts=1,
            settled_at=1_700_000_000 + self.number / 1000,
            result=None if answer is None else Result(answer=answer, worker=worker, protocol=protocol, **figures),
            failure=Failure("RemoteError", "it broke", worker, protocol, 0.5) if answer is None else None,
        )
        self.outcomes.append(outcome)
        return outcome

    def take_back(self, question_id: str) -> None:
        self.outcomes = [outcome for outcome in self.outcomes if outcome.question.id != question_id]
        self.taken_back += 1

    async def results(self, after: int = 0, limit: int = 1000) -> list[Outcome]:
        self.reads += 1
        dense = not self.taken_back and len(self.outcomes) == self.number
        rows = self.outcomes[after:] if dense else [o for o in self.outcomes if o.number > after]
        return rows[:limit]

    async def revision(self) -> int:
        return self.taken_back

    async def counts(self) -> Counts:
        done = sum(1 for outcome in self.outcomes if outcome.result)
        return Counts(done=done, dead=len(self.outcomes) - done)

    async def stats(self) -> dict[str, int]:
        return {"re_executions": 3, "late_duplicates_rejected": 2, "losses": 1}
