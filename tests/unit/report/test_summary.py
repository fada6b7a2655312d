from __future__ import annotations

import asyncio
import json
import tracemalloc

import pytest
from unit.report.record import Record

from streaming_queue.errors import ConfigError, StreamingQueueError
from streaming_queue.report.projection import Projection
from streaming_queue.report.run_directory import RunDirectory
from streaming_queue.report.summary import check_result_file, write_results
from streaming_queue.telemetry.json_lines import encode_line

PROVIDER = {"name": "mock", "model": None, "mock": True, "reason": "no key"}


@pytest.fixture
def directory(tmp_path):
    return RunDirectory.create(tmp_path / "run", "a2a", {"provider": PROVIDER, "config": {"seed": 1}})


async def recorded(directory, rows: int) -> Record:
    record = Record()
    for number in range(1, rows + 1):
        record.end(f"q-{number}", "yes" if number % 10 else None, worker=f"Worker-{number % 2 + 1}", mock=True)
    async with Projection(record, directory.results_jsonl):
        pass
    return record


async def test_the_report_holds_facts_figures_and_every_row(directory):
    record = await recorded(directory, 100)
    summary = await write_results(directory, record, state="done", seconds=2.0)
    report = json.loads(directory.results_json.read_text())
    assert list(report) == ["metadata", "performance", "results"]
    metadata = report["metadata"]
    assert (metadata["run_id"], metadata["protocol"], metadata["state"]) == (directory.run_id, "a2a", "done")
    assert metadata["provider"] == PROVIDER
    assert metadata["counts"] == {"ready": 0, "leased": 0, "done": 90, "dead": 10}
    assert metadata["stats"] == {"re_executions": 3, "late_duplicates_rejected": 2, "losses": 1}
    assert metadata["created"] == directory.manifest["created"]
    assert metadata["config"] == {"seed": 1}
    assert report["performance"]["overall"]["questions_per_s"] == 45.0
    assert report["results"] == [json.loads(encode_line(outcome.row())) for outcome in record.outcomes]
    assert summary["files"] == [str(directory.results_jsonl), str(directory.results_json)]


async def test_the_summary_is_the_report_in_short(directory):
    record = await recorded(directory, 100)
    summary = await write_results(
        directory, record, state="stopped", seconds=2.0, workers=["Worker-1", "Worker-2", "Worker-3"]
    )
    facts = {"state": "stopped", "questions": 100, "answered": 90, "failed": 10, "open": 0, "seconds": 2.0}
    facts |= {
        "questions_per_s": 45.0,
        "mock": True,
        "mock_answers": 90,
        "truncated": 0,
        "re_executions": 3,
        "late_duplicates_rejected": 2,
        "losses": 1,
    }
    assert summary | facts == summary
    assert summary["overhead_share"] == pytest.approx(0.01)
    assert summary["timings"]["llm_ms"]["p50"] == 247.5
    assert summary["timings"]["ttft_ms"]["count"] == 0
    assert list(summary["workers"]) == ["Worker-1", "Worker-2", "Worker-3"]
    assert summary["workers"]["Worker-3"]["response_time_p50"] is None
    assert json.loads(json.dumps(summary)) == summary
    await asyncio.to_thread(directory.update, state="stopped", summary=summary)
    assert json.loads(directory.manifest_path.read_text())["summary"] == summary


async def test_the_protocols_of_a_mixed_run_stand_beside_each_other(directory):
    record = Record()
    record.end("q-1", worker="Worker-1", protocol="ws", protocol_ms=1.0, response_time_s=0.1)
    record.end("q-2", worker="Worker-2", protocol="http", protocol_ms=9.0, response_time_s=0.5)
    record.end("q-3", None, worker="Worker-2", protocol="http")
    async with Projection(record, directory.results_jsonl):
        pass
    summary = await write_results(directory, record, state="done", seconds=2.0)
    http, ws = summary["protocols"]["http"], summary["protocols"]["ws"]
    assert (http["answered"], http["failed"], http["success_share"]) == (1, 1, 0.5)
    assert (http["protocol_ms_p50"], http["response_time_p50"]) == (9.0, 0.5)
    assert (ws["answered"], ws["success_share"], ws["protocol_ms_p50"], ws["response_time_p50"]) == (1, 1.0, 1.0, 0.1)
    assert json.loads(directory.results_json.read_text())["performance"]["protocols"]["http"]["success_share"] == 0.5


async def test_a_resumed_run_worked_as_long_as_all_its_parts(directory):
    first = await write_results(directory, await recorded(directory, 50), state="stopped", seconds=2.0)
    await asyncio.to_thread(directory.update, summary=first)
    record = await recorded(directory, 100)
    second = await write_results(directory, record, state="done", seconds=1.0)
    assert (second["seconds"], second["questions_per_s"]) == (3.0, 30.0)
    await asyncio.to_thread(directory.update, summary=second)
    idle = await write_results(directory, record, state="done", seconds=5.0)
    assert (idle["seconds"], idle["questions_per_s"]) == (3.0, 30.0)


async def test_no_rows_is_a_report_too(directory):
    record = await recorded(directory, 0)
    summary = await write_results(directory, record, state="failed", seconds=0.0)
    assert json.loads(directory.results_json.read_text())["results"] == []
    assert (summary["answered"], summary["questions_per_s"], summary["mock"]) == (0, None, True)


async def test_a_run_whose_workers_mocked_although_the_provider_is_real_says_so(tmp_path):
    directory = await asyncio.to_thread(
        RunDirectory.create,
        tmp_path / "real",
        "a2a",
        {"provider": {"name": "openai", "model": "gpt", "mock": False, "reason": None}},
    )
    summary = await write_results(directory, await recorded(directory, 5), state="done", seconds=1.0)
    assert (summary["mock"], summary["mock_answers"]) == (True, 5)


async def test_the_copy_is_the_same_and_its_folder_is_made(directory, tmp_path):
    record = await recorded(directory, 10)
    target = tmp_path / "new" / "folder" / "out.json"
    await asyncio.to_thread(check_result_file, target)
    assert list(target.parent.iterdir()) == []
    summary = await write_results(directory, record, state="done", seconds=1.0, result_file=target)
    assert target.read_bytes() == directory.results_json.read_bytes()
    assert summary["files"][-1] == str(target)
    assert list(target.parent.iterdir()) == [target]


async def test_a_link_stays_a_link_and_its_target_is_replaced(directory, tmp_path):
    record = await recorded(directory, 10)
    (tmp_path / "target.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "target.json")
    await write_results(directory, record, state="done", seconds=1.0, result_file=tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "target.json").read_text())["metadata"]["state"] == "done"


async def test_the_result_file_may_be_the_report_itself(directory):
    record = await recorded(directory, 10)
    await write_results(directory, record, state="done", seconds=1.0, result_file=directory.results_json)
    assert len(json.loads(directory.results_json.read_text())["results"]) == 10


async def test_a_report_that_fails_half_way_leaves_the_old_one(directory):
    record = await recorded(directory, 10)
    await write_results(directory, record, state="done", seconds=1.0)
    before = directory.results_json.read_bytes()
    with directory.results_jsonl.open("ab") as file:
        file.write(b"no row\n")
    with pytest.raises(StreamingQueueError, match=r"results\.jsonl: a line is no row.*`stq resume"):
        await write_results(directory, record, state="done", seconds=1.0)
    assert directory.results_json.read_bytes() == before


async def test_missing_rows_are_an_error_that_names_the_file(directory):
    with pytest.raises(StreamingQueueError, match=r"results\.jsonl: the report cannot be written: No such file"):
        await write_results(directory, Record(), state="done", seconds=1.0)


async def test_many_rows_take_flat_memory(directory):
    count = 20_000
    row = Record().end("q", "x" * 500).row()
    line = encode_line(row)
    with directory.results_jsonl.open("wb") as file:
        for _ in range(count):
            file.write(line)
    tracemalloc.start()
    await write_results(directory, Record(), state="done", seconds=1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * count
    assert directory.results_json.stat().st_size > 500 * count


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", "is a directory"),
        ("/dev/null", "not a regular file"),
        ("/proc/nobody/out.json", "cannot be written"),
        ("file/out.json", "cannot be written"),
    ],
)
def test_an_unusable_result_file_is_found_early(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"result_file: {path} .*{message}|result_file: {path} {message}"):
        check_result_file(path)


def test_checking_leaves_an_earlier_report_alone(tmp_path):
    (tmp_path / "out.json").write_text("earlier")
    check_result_file(tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [tmp_path / "out.json"]
