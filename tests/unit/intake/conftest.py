from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from streaming_queue.errors import ConfigError
from streaming_queue.intake import Problem, open_source
from streaming_queue.messages import Question


@dataclass
class Reading:
    """Everything a source gave, batch after batch."""

    questions: list[Question] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    description: str = ""
    remarks: list[str] = field(default_factory=list)
    error: ConfigError | None = None

    @property
    def texts(self) -> list[str]:
        return [question.text for question in self.questions]

    @property
    def locations(self) -> list[str]:
        return [Path(problem.location).name for problem in self.problems]


@pytest.fixture
def write(tmp_path):
    """Write a file of bytes or text; returns its path."""

    def write_file(data: bytes | str, name: str = "in.jsonl") -> str:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    return write_file


@pytest.fixture
def read():
    """Read a source to its end; an error on the way is kept, one at opening is raised."""

    async def read_source(path: str | None, size: int = 500, **options) -> Reading:
        reading = Reading()
        async with await open_source(path, **options) as source:
            reading.description = source.describe()
            try:
                async for batch in source.batches(size):
                    reading.questions += batch.questions
                    reading.problems += batch.problems
                    reading.lines.append(batch.lines)
                    reading.sizes.append(len(batch.questions) + len(batch.problems))
                    reading.remarks += [remark.text for remark in source.remarks()]
                reading.remarks += [remark.text for remark in source.remarks(final=True)]
            except ConfigError as error:
                reading.error = error
        return reading

    return read_source


@pytest.fixture
def one(write, read):
    """The only question or problem of a file with one line (bytes) between two good ones."""

    async def read_one(line: bytes | str, name: str = "in.jsonl", header: bytes = b"", good: bytes = b'{"q": "good"}'):
        line = line.encode() if isinstance(line, str) else line
        reading = await read(write(header + good + b"\n" + line + b"\n" + good + b"\n", name))
        assert reading.texts[0] == reading.texts[-1] == "good"
        first_line = 2 + header.count(b"\n")
        assert reading.locations == [f"{name}:{first_line}"] * len(reading.problems)
        others = reading.questions[1:-1] + reading.problems
        assert len(others) == 1
        return others[0]

    return read_one
