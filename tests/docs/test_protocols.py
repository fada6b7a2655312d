"""Each registered protocol has a page and a row in both READMEs, and they say what its backend claims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streaming_queue.comm import registry
from streaming_queue.config.backends import sections

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "protocols"
ROW = re.compile(
    r"^\| \[`(\w+)`\]\(docs/protocols/(\w+)\.md\) \| (?:`\[(\w+)\]`|-) \| ([\w, ]+) \| \S.*\|$", re.MULTILINE
)


def untold(name: str, page: str) -> list[str]:
    """The keys of a protocol's section that its page does not name."""
    section = sections().get(name)
    return [key for key in (section.model_fields if section else ()) if f"{name}.{key}" not in page]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_a_readme_has_a_true_row_for_each(readme: str) -> None:
    rows = {name: (page, extra or None, told) for name, page, extra, told in ROW.findall((ROOT / readme).read_text())}
    expected = {}
    for spec in registry.BUILTIN:
        claims = registry.load(spec.name).capabilities
        told = ", ".join(field for field in type(claims).__dataclass_fields__ if getattr(claims, field))
        expected[spec.name] = (spec.name, spec.extra, told)
    assert rows == expected


def test_each_has_one_page_and_no_other_page_is_there() -> None:
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted(spec.name for spec in registry.BUILTIN)


@pytest.mark.parametrize("name", [spec.name for spec in registry.BUILTIN])
def test_a_page_names_each_key_of_its_section(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text()
    assert page.startswith("# ")
    assert untold(name, page) == []
