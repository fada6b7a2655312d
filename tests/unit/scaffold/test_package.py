from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import streaming_queue
from streaming_queue.errors import ConfigError
from streaming_queue.scaffold.names import MAX_CHARACTERS, Names
from streaming_queue.scaffold.package import FILES, TEMPLATE, new_package, render

ROOT = Path(__file__).parents[3]
LONG = "a-" * (MAX_CHARACTERS // 2 - 1) + "zz"


def test_the_template_has_the_files_that_are_written_and_no_others() -> None:
    made_by_tools = {"__pycache__", ".ruff_cache", ".mypy_cache", ".pytest_cache"}
    found = {path.relative_to(TEMPLATE) for path in TEMPLATE.rglob("*") if path.is_file()}
    assert {path.as_posix() for path in found if not made_by_tools & set(path.parts)} == set(FILES)


def check(directory: Path, *command: str) -> None:
    environment = {**os.environ, "MYPYPATH": str(Path(streaming_queue.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", ["x", LONG])
def test_what_is_written_keeps_its_own_rules_and_ours_however_long_the_name(tmp_path: Path, name: str) -> None:
    package = new_package(name, tmp_path / "new").names.package
    ours = (f"--config={ROOT / 'pyproject.toml'}", f"--config=lint.isort.known-first-party=['{package}']")
    check(tmp_path / "new", "ruff", "format", "--check", ".")
    check(tmp_path / "new", "ruff", "check", ".")
    check(tmp_path / "new", "ruff", "check", *ours, ".")


def test_what_is_written_is_typed(tmp_path: Path) -> None:
    new_package("acme", tmp_path / "new")
    check(tmp_path / "new", "mypy", "--strict", "--follow-imports=silent", "src")


def test_nothing_of_the_template_s_name_is_left() -> None:
    for path, text in render(Names("acme")).items():
        assert "new" not in path
        for form in ("new-proto", "new_proto", "NewProto"):
            assert form not in text


def test_there_are_four_todos() -> None:
    todos = [
        (Path(path).name, line.strip())
        for path, text in render(Names("acme")).items()
        for line in text.splitlines()
        if "TODO:" in line
    ]
    assert [name for name, _ in todos] == ["address.py", "codec.py", "codec.py", "comm.py"]
    assert all(line.startswith("# TODO: ") for _, line in todos)


def test_distribution_package_and_entry_point_bear_the_name() -> None:
    project = tomllib.loads(render(Names("my-proto"))["pyproject.toml"])["project"]
    assert project["name"] == "my-proto"
    assert project["entry-points"] == {"streaming_queue.backends": {"my-proto": "my_proto.comm:MyProtoCommBackend"}}
    assert project["dependencies"] == [f"streaming-queue>={streaming_queue.__version__}"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert new_package("acme", tmp_path).directory == tmp_path
    assert (tmp_path / "src" / "acme" / "py.typed").exists()


def test_by_default_it_is_a_folder_of_the_protocols_name_here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    new_package("my_proto")
    assert (tmp_path / "my-proto" / "pyproject.toml").exists()


@pytest.mark.parametrize("is_file", [True, False])
def test_nothing_is_overwritten(tmp_path: Path, is_file: bool) -> None:
    target = tmp_path / "new"
    kept = target if is_file else target / "kept.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    with pytest.raises(ConfigError, match="new is there already, and nothing is overwritten: choose another folder"):
        new_package("acme", target)
    assert kept.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/new cannot be written: .*: choose another folder with -o"):
        new_package("acme", tmp_path / "file" / "new")
