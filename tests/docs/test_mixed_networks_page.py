"""docs/mixed-networks.md shows what works; its commands are run with those of every page (test_readme.py)."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from streaming_queue.config import Config
from streaming_queue.runner.run_meta_network import MetaNetworkRunner

TEXT = (Path(__file__).parents[2] / "docs" / "mixed-networks.md").read_text(encoding="utf-8")


def test_the_list_shown_is_the_workers_its_comments_name():
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    roster = Config.of(yaml.safe_load(example)).roster
    named = [name for line in example.splitlines() for name in re.findall(r"Worker-\d", line)]
    assert list(roster) == named
    assert [setup.protocol for setup in roster.values()] == ["http", "http", "ws", "http", "a2a"]


def test_the_protocols_named_are_those_of_the_runner():
    *first, last = MetaNetworkRunner.protocols
    assert f"each over {', '.join(first)} and {last}" in " ".join(TEXT.split())
