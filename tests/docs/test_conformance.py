"""The page shows the contract that the checks hold backends to, and nothing else."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

from streaming_queue.testing import BackendContract, Relay
from streaming_queue.testing.contract import LINES, SECTIONS

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_page_has_every_line_as_the_table_says_it() -> None:
    _, _, contract = PAGE.read_text().partition("## The contract\n")
    shown = [line for line in contract.splitlines() if line.startswith(("### ", "| "))]
    expected = []
    for section, title in SECTIONS.items():
        expected += [f"### {title}", "| line | of | promise | needs |"]
        expected += [
            f"| {line.id} | `{line.of}` | {line.text} | {', '.join(line.needs)} |"
            for line in LINES
            if line.section == section
        ]
    assert shown == expected


def test_the_page_names_what_a_subclass_may_say() -> None:
    rows = re.findall(r"^\| `(\w+)`(?: \(fixture\))? \| (\S+) \|", PAGE.read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == ["backend_options", "endpoint", "endpoint_echoes", "bind", "relayed"]
    for name, default in rows:
        value = inspect.getattr_static(BackendContract, name)
        if name in {"endpoint_echoes", "bind", "relayed"}:
            assert default.strip("`") == str(value)


def test_what_the_relay_can_do_is_what_it_does() -> None:
    for word, method in {
        "refuses": Relay.refuse,
        "resets": Relay.reset,
        "cuts": Relay.cut,
        "delays": Relay.delay,
        "swallows": Relay.black_hole,
        "speaks something else": Relay.answer,
    }.items():
        assert word in PAGE.read_text()
        assert method.__doc__


def test_the_five_lines_are_a_test_file(tmp_path: Path) -> None:
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "from my_package" in block
    )
    (tmp_path / "test_mine.py").write_text(code)
    (tmp_path / "my_package.py").write_text(
        "from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend as MyCommBackend\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "parts or claims"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
