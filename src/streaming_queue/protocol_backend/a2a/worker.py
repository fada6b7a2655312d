"""A worker as A2A shows it."""

from __future__ import annotations

from streaming_queue.comm.skills import Skill
from streaming_queue.core.executors import WorkerExecutor


class A2AWorkerExecutor(WorkerExecutor):
    """A worker behind A2A, and what its card says."""

    description = "Answers questions with a language model, in plain text."
    skills = (
        Skill(
            id="answer",
            name="Answer a question",
            description="Takes a question as text and answers it; each message stands for itself.",
            tags=("question-answering", "llm"),
            examples=("What is the capital of France?",),
        ),
    )
