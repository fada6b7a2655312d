"""The questions that come with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def bundled_questions() -> Path:
    """The bundled set: JSONL with `id`, `question` and `answer`, the short reference answer."""
    return Path(str(files("streaming_queue"))) / "data" / "questions.jsonl"
