"""A real provider behind the workers, as far as a local server can be one."""

from __future__ import annotations


def test_a_configured_provider_answers_and_is_never_replaced_by_the_mock(stq, openai_server) -> None:
    environment = {"OPENAI_BASE_URL": openai_server, "OPENAI_API_KEY": "right-key"}
    done = stq("run", "-q", stq.questions(10), "-o", "run", "--model", "test-model", env=environment)
    assert done.returncode == 0, done.stderr
    assert "LLM: openai, test-model" in done.stderr
    assert "right-key" not in done.stdout + done.stderr
    rows = stq.rows()
    assert {row["answer"] for row in rows} == {f"The answer to What is {number} + 1? is 42." for number in range(10)}
    assert all(row["mock"] is False and row["model"] == "test-model" for row in rows)
    assert all(row["usage"]["total_tokens"] == 16 for row in rows)
    assert "right-key" not in (stq.directory / "run" / "run.json").read_text()


def test_a_provider_that_cannot_be_reached_is_an_error_not_a_mock_answer(stq) -> None:
    environment = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": "right-key"}
    done = stq(
        "run", "-q", stq.questions(2), "-o", "run", "--model", "m", "-s", "scheduler.max_attempts=2", env=environment
    )
    assert done.returncode == 3, done.stderr
    assert all(row["status"] == "failed" and row["answer"] is None for row in stq.rows())
    assert all("127.0.0.1:9" in row["error"]["message"] for row in stq.rows())


def test_a_run_without_quota_stops_and_is_resumed_with_all_its_questions(stq, openai_server) -> None:
    environment = {"OPENAI_BASE_URL": openai_server, "OPENAI_API_KEY": "empty-key"}
    done = stq("run", "-q", stq.questions(10), "-o", "run", "--model", "test-model", env=environment)
    assert done.returncode == 75, done.stderr
    assert stq.rows() == []
    assert stq.manifest()["state"] == "stopped"
    done = stq("resume", "run", env=environment | {"OPENAI_API_KEY": "right-key"})
    assert done.returncode == 0, done.stderr
    assert len(stq.rows()) == 10
