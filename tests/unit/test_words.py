"""Names of this project are the field's words, not pictures: `stall_detector`, not `lookout`."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURES = frozenset(
    ["lookout", "errand", "crew", "dispenser", "kept_answers", "crawl", "knock", "tape", "census", "weather"]
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_CODE = re.compile(r"^(`{3,})[^`\n]*\n(.*?)^\1`*\s*$|(`+)(.+?)(?<!`)\3(?!`)", re.MULTILINE | re.DOTALL)
_IDENTIFIER = re.compile(r"\w+")


def pictures(identifier: str) -> set[str]:
    """The words of `PICTURES` in the parts of an identifier, a plural too."""
    parts = [part.lower() for part in _WORD.findall(identifier)]
    singular = [part.removesuffix("s") for part in parts]
    return PICTURES & {*parts, *singular, *map("_".join, pairwise(parts))}


def names_of(path: Path) -> Iterator[tuple[int, str]]:
    """The names in a Python file with their lines; the name of the file first."""
    yield 0, path.stem
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.NAME:
                yield token.start[0], token.string


def names_in_code(path: Path) -> Iterator[tuple[int, str]]:
    """The identifiers in the code spans and code blocks of a page."""
    text = path.read_text(encoding="utf-8")
    for span in _CODE.finditer(text):
        line = text.count("\n", 0, span.start()) + 1
        for name in _IDENTIFIER.findall(span[2] or span[4] or ""):
            yield line, name


def test_no_identifier_is_a_picture() -> None:
    sources = [path for folder in ("src", "tests", "bench") for path in sorted((ROOT / folder).rglob("*.py"))]
    pages = [path for path in sorted((ROOT / "docs").rglob("*.md")) if ROOT / "docs" / "adr" not in path.parents]
    assert len(sources) > 500
    assert len(pages) > 20
    names = [(path, *each) for path in sources if path != Path(__file__) for each in names_of(path)]
    names += [(path, *each) for path in pages for each in names_in_code(path)]
    checked = {name: pictures(name) for _, _, name in names}
    assert [f"{path.relative_to(ROOT)}:{line}: {name}" for path, line, name in names if checked[name]] == []


def test_parts_of_identifiers_are_found_and_longer_words_are_not() -> None:
    assert pictures("_lookoutTask") == {"lookout"}
    assert pictures("HTTPCrew") == pictures("CREW_S") == pictures("crews") == {"crew"}
    assert pictures("kept_answers") == pictures("KeptAnswers") == {"kept_answers"}
    assert pictures("datetape") == pictures("crewman") == pictures("answers_kept") == set()


def test_code_of_a_page_is_looked_into_and_its_prose_is_not(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("the weather\n`a_crew` and ``b`c``\n```python\nerrand = 1\n```\nno tape\n", encoding="utf-8")
    assert [*names_in_code(page)] == [(2, "a_crew"), (2, "b"), (2, "c"), (3, "errand"), (3, "1")]
