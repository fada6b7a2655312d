"""docs/reliability.md names every option, fault, figure and target of the storm."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streaming_queue.failstorm import faults, plan, storm, summary

PAGE = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text("utf-8")

AWAY = {
    "some workers, at the start": "e2e/test_available.py::test_a_run_begins_with_the_workers_that_answer_and_takes_in_the_others",
    "all workers, at the start": "e2e/test_available.py::test_without_any_worker_no_run_begins",
    "a worker dies in the middle": "faults/test_processes.py::test_a_worker_that_dies_mid_run_costs_nothing",
    "all workers, in the middle": "faults/test_processes.py::test_with_no_worker_left_a_run_waits_stops_and_can_be_resumed",
    "a provider or worker asks to wait": "unit/core/scheduling/test_scheduler_pace.py::test_a_run_whose_workers_ask_to_wait_says_until_when",
    "a provider fails for a while": "faults/test_peers.py::test_a_provider_that_is_down_for_a_while_costs_time_and_no_answer",
    "the quota is used up": "e2e/test_openai.py::test_a_run_without_quota_stops_and_is_resumed_with_all_its_questions",
    "a credential is refused": "e2e/test_credentials.py::test_every_command_ends_with_77_and_says_why",
    "a worker stands still (SIGSTOP)": "faults/test_peers.py::test_a_worker_that_stands_still_and_goes_on_is_not_heard_twice",
    "an agent sends heartbeats and no content": "conformance/test_idle.py::test_an_agent_that_sends_nothing_new_is_given_up",
    "an agent is slow and honest": "unit/core/scheduling/test_attempts.py::test_an_honest_slow_worker_is_not_cut",
    "the question file was changed": "unit/core/test_source_change.py::test_changed_lines_are_refused_before_anything_is_asked",
    "the pipe of questions is gone": "faults/test_processes.py::test_a_pipe_that_is_gone_keeps_what_was_read_and_says_so",
    "space on the disk": "unit/core/test_run_disk.py::test_a_full_disk_pauses_the_run_until_there_is_space",
    "the disk does not answer": "unit/core/test_run_disk.py::test_a_disk_that_hangs_stops_the_run_which_can_be_resumed",
    "the disk fails a sync": "faults/test_disks.py::test_a_sync_that_fails_ends_the_run_and_is_not_tried_again",
    "the run itself (`kill -9`, a power cut)": "faults/test_kills.py::test_nothing_is_lost_nothing_twice_and_no_more_is_asked_again_than_was_under_way",
    "the reader of `--json`": "faults/test_consumers.py::test_the_reader_of_json_gets_after_a_kill_every_row_that_it_had_not_read",
    "the wall clock jumps": "faults/test_networks.py::test_a_wall_clock_that_jumps",
}
"""What is away -> the test that runs it."""


def test_every_row_of_what_is_away_is_run_by_a_test() -> None:
    table = PAGE.partition("| what is away |")[2].partition("\n\n")[0]
    assert [row.split("|")[1].strip() for row in table.splitlines()[2:]] == list(AWAY)
    for place in AWAY.values():
        path, _, name = place.partition("::")
        text = (Path(__file__).parents[1] / path).read_text("utf-8")
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), place


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
