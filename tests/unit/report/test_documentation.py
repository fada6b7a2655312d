"""docs/results.md names every key that a run's files have."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from unit.report.record import Record

from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.report.summary import write_results

PAGE = Path(__file__).parents[3] / "docs" / "results.md"


def section(title: str) -> set[str]:
    """The keys that the tables and sentences below a heading name."""
    text = PAGE.read_text()
    found = re.search(rf"^#+ {re.escape(title)}.*?\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {title}"
    return set(re.findall(r"`([a-z_0-9]+)`", found[1]))


@pytest.fixture
async def files(tmp_path):
    directory = await asyncio.to_thread(RunDirectory.create, tmp_path / "run", "a2a", {})
    record = Record()
    record.end("q-1")
    record.end("q-2", None)
    async with Projection(record, directory.results_jsonl):
        pass
    summary = await write_results(directory, record, state="done", seconds=1.0)
    await asyncio.to_thread(directory.update, state="done", summary=summary)
    return json.loads(directory.results_json.read_text()), json.loads(directory.manifest_path.read_text())


def test_every_key_of_a_row_is_documented_and_no_other(files):
    rows = PAGE.read_text().split("## results.json:")[0]
    assert {key for row in files[0]["results"] for key in row} == set(
        re.findall(r"^\| `([a-z_]+)` \|", rows, re.MULTILINE)
    )


def test_every_key_of_the_report_is_documented(files):
    report, manifest = files
    assert set(report) <= section("results.json: the record as JSON")
    extra = set(report["metadata"]) - set(manifest)
    assert extra <= section("metadata")
    assert set(report["metadata"]["counts"]) | set(report["metadata"]["stats"]) <= section("metadata")


def test_every_key_of_performance_is_documented(files):
    performance, named = files[0]["performance"], section("performance")
    assert set(performance) <= named
    for figures in (performance["overall"], performance["workers"]["Worker-1"], performance["protocols"]["a2a"]):
        assert set(figures) <= named
        assert set(figures["response_time"]) <= named


def test_every_key_of_the_manifest_and_the_summary_is_documented(files):
    manifest = files[1]
    named = section("run.json: the manifest")
    assert set(manifest) | set(manifest["versions"]) <= named
    assert set(manifest["summary"]) | set(manifest["summary"]["workers"]["Worker-1"]) <= named


def test_every_file_is_documented(files, tmp_path):
    table = PAGE.read_text()
    assert all(f"`{path.name}`" in table for path in (tmp_path / "run").iterdir())
