"""The wheel and the source distribution that `make dist` has just built: complete, alike, and readable by themselves."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest
from markdown_it import MarkdownIt
from packaging.metadata import Metadata

ROOT = Path(__file__).parents[2]
DOCUMENTS = {"README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"}
BUILD = {".gitignore", "PKG-INFO", "hatch_build.py", "pyproject.toml"}


@pytest.fixture(scope="module")
def wheel() -> Path:
    (path,) = (ROOT / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist() -> Path:
    (path,) = (ROOT / "dist").glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> str:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name).decode()


def test_the_metadata_is_valid(metadata: str) -> None:
    parsed = Metadata.from_email(metadata, validate=True)
    assert (parsed.name, parsed.description_content_type) == ("streaming-queue", "text/markdown")
    assert set(parsed.provides_extra or ()) >= {"all", "anp", "grpc", "nats", "openai", "testing", "ws"}


def test_the_description_stands_alone(metadata: str) -> None:
    description = message_from_string(metadata).get_payload()
    markdown = MarkdownIt("commonmark").enable("table")
    inline = [child for token in markdown.parse(description) for child in token.children or ()]
    links = [str(token.attrs["href"]) for token in inline if token.type == "link_open"]
    assert [link for link in links if not link.startswith(("http://", "https://"))] == []
    assert not [token for token in inline if token.type == "image"]
    assert "](" not in description
    page = markdown.render(description)
    assert page.count("<h1>") == 1
    assert page.count("<table>") == description.count("\n|---|")


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    ours = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    ours = {name for name in ours if "cache" not in name.rpartition("/")[0]}
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == ours
    assert names >= {
        f"streaming_queue/{name}"
        for name in ("py.typed", "data/questions.jsonl", "scaffold/template/.github/workflows/ci.yml")
    }


def test_the_source_distribution_has_what_it_takes_and_the_documents(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {name.partition("/")[0] for name in names} == DOCUMENTS | BUILD | {"docs", "examples", "src"}
    assert not [name for name in names if "__pycache__" in name or "/." in name.replace("/.github/", "/")]


def test_the_source_distribution_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"], cwd=source, check=True)
    assert (source / "out" / wheel.name).read_bytes() == wheel.read_bytes()
