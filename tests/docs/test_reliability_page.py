"""docs/reliability.md names every option, fault, figure and target of the storm."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming_queue.failstorm import faults, plan, storm, summary

PAGE = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text("utf-8")


@pytest.mark.parametrize("name", [*summary.TIMES, *summary.COUNTS, *plan.Fault])
def test_it_is_explained(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_the_figures_are_the_codes() -> None:
    defaults = plan.Plan()
    for option, value in (("workers", defaults.workers), ("kill", defaults.kill), ("cycles", defaults.cycles)):
        assert f"| `--{option}` | {value} |" in PAGE
    assert f"| `--every` | {defaults.every_s:g} |" in PAGE
    assert f"with {defaults.slots} slots each" in PAGE
    assert f"take {defaults.latency_ms:g} ms" in PAGE
    assert f"{defaults.load:.0%}".replace("%", " %") in PAGE
    assert f"(`stop`, `blackhole`) | {summary.SILENCE_SEEN_S:g} s |" in PAGE
    assert f"(`kill`, `flap`) | {summary.RESET_SEEN_S:g} s |" in PAGE
    assert f"throughput is back | {summary.RECOVERED_S:g} s |" in PAGE
    assert f"held back for {faults.SLOW_S:g} s" in PAGE
    assert f"for {faults.FLAP_S:g} s connections are reset" in PAGE
    assert f"{storm.BACK_S:g} s at the most" in PAGE
    assert f"been back for {storm.CALM_S:g} s" in PAGE
