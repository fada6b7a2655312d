"""Identities and documents in folders of the test's own, and a backend that is closed in the end."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from streaming_queue.protocol_backend.anp.comm import AnpCommBackend
from streaming_queue.protocol_backend.anp.identity import Identity


@pytest.fixture(autouse=True)
def temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory, and so the neighbours, are the test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def _saved(directory: Path) -> Identity:
    made = Identity.create(directory.name)
    made.save(directory)
    return made


@pytest.fixture
def caller(tmp_path: Path) -> Identity:
    """An identity, saved in the directory `caller`."""
    return _saved(tmp_path / "caller")


@pytest.fixture
def stranger(tmp_path: Path) -> Identity:
    """Another one, saved in the directory `stranger`."""
    return _saved(tmp_path / "stranger")


@pytest.fixture
async def backend() -> AsyncIterator[Callable[..., AnpCommBackend]]:
    """`backend(**options)` makes one."""
    made: list[AnpCommBackend] = []

    def make(**options: Any) -> AnpCommBackend:
        made.append(AnpCommBackend(**options))
        return made[-1]

    yield make
    await asyncio.gather(*(each.close() for each in made))
