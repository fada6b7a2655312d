from __future__ import annotations

from pathlib import Path

import pytest
from unit.cli.test_main import run


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-p", "inproc"), "protocol 'inproc' has no socket"),
        (("-p", "htp"), "did you mean 'http'?"),
        (("--workers", "3", "--kill", "3"), "--kill 3 of --workers 3 leaves no worker"),
        (("--fault", "flood"), "'flood' is not one of"),
    ],
)
def test_what_cannot_be_hit_is_refused(capsys, arguments: tuple[str, ...], told: str) -> None:
    assert run("failstorm", *arguments) == 2
    assert told in capsys.readouterr().err


def test_a_directory_with_something_in_it_is_left_alone(capsys, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    assert run("failstorm", "-p", "http", "-o", str(tmp_path)) == 2
    assert "is not empty: choose another -o" in capsys.readouterr().err
