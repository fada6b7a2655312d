"""`handler` (a2a-handler), a client that we did not write, speaks with the agents that we host."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)  # the first builds the environment

TEXT = "What is the capital of France?"
SLOW_MS = 25_000
"""Longer than a command takes to start on a busy machine."""


@pytest.fixture
def handler(install: Any) -> Any:
    """`handler(*arguments)`: what the command printed as JSON; `fails=True`: the error it printed."""
    run = install("a2a-handler", "a2a-handler>=0.4,<0.5")

    def handler(*arguments: str, fails: bool = False, **variables: str) -> Any:
        done = run("handler", "--output", "json", *arguments, **variables)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return json.loads(done.stderr[done.stderr.index("{") : done.stderr.rindex("}") + 1] if fails else done.stdout)

    return handler


@pytest.mark.parametrize("role", ["worker", "coordinator", "guarded"])
def test_the_card_is_valid(handler: Any, agent: Any, role: str) -> None:
    url = agent(role).url
    told = handler("card", "validate", "--url", url)
    assert (told["valid"], told["agent_name"]) == (True, "Coordinator-1" if role == "coordinator" else "Worker-1")
    skills = {skill["id"] for skill in handler("card", "get", "--url", url)["skills"]}
    assert skills == ({"dispatch", "status", "attach"} if role == "coordinator" else {"answer"})


def test_a_message_is_answered(handler: Any, agent: Any) -> None:
    url = agent("worker").url
    message = handler("message", "send", "--url", url, "--text", TEXT, "--context-id", "c-1")
    assert message["role"] == "ROLE_AGENT"
    assert message["contextId"] == "c-1"
    assert message["parts"][0]["text"].startswith("[mock]")
    assert message["metadata"]["mock"] is True


def test_an_answer_is_streamed(handler: Any, agent: Any) -> None:
    task = handler("message", "stream", "--url", agent("worker").url, "--text", TEXT)
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    [artifact] = task["artifacts"]
    [part] = artifact["parts"]
    assert part["text"].startswith("[mock]")
    assert part["text"].count("[mock]") == 1


def test_a_coordinator_tells_its_status(handler: Any, agent: Any) -> None:
    message = handler("message", "send", "--url", agent("coordinator").url, "--text", "status")
    assert message["metadata"]["state"] == "idle"


def test_a_task_is_begun_found_and_cancelled(handler: Any, agent: Any) -> None:
    url = agent("worker", 60_000).url
    begun = handler("message", "send", "--url", url, "--text", TEXT, "--no-wait", "--context-id", "c-1")
    assert begun["status"]["state"] == "TASK_STATE_WORKING"
    assert handler("task", "get", begun["id"], "--url", url)["contextId"] == "c-1"
    assert handler("task", "list", "--url", url, "--status", "working")["count"] == 1
    assert handler("task", "cancel", begun["id"], "--url", url)["status"]["state"] == "TASK_STATE_CANCELED"
    assert handler("task", "get", begun["id"], "--url", url)["status"]["state"] == "TASK_STATE_CANCELED"
    again = handler("task", "cancel", begun["id"], "--url", url, fails=True)
    assert again["details"]["error"] == "TaskNotCancelableError"
    ended = handler("message", "send", "--url", url, "--text", "more", "--task-id", begun["id"], fails=True)
    assert ended["details"]["error"] == "UnsupportedOperationError"
    assert "c-1" in ended["message"]


def test_a_task_is_followed_again(handler: Any, agent: Any) -> None:
    worker = agent("worker", SLOW_MS)
    task = handler("task", "resubscribe", worker.begin(), "--url", worker.url)
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert task["artifacts"][0]["parts"][0]["text"].startswith("[mock]")


def test_a_follow_up_keeps_its_tasks_context(handler: Any, agent: Any) -> None:
    url = agent("worker", SLOW_MS).url
    begun = handler("message", "send", "--url", url, "--text", TEXT, "--no-wait")
    answer = handler("message", "send", "--url", url, "--text", "And of Spain?", "--task-id", begun["id"])
    assert answer["contextId"] == begun["contextId"]
    assert answer["parts"][0]["text"].startswith("[mock]")


def test_a_guarded_agent_wants_its_credential(handler: Any, agent: Any) -> None:
    url = agent("guarded").url
    send = ("message", "send", "--url", url, "--text", TEXT)
    assert "401" in handler(*send, fails=True)["message"]
    assert "401" in handler(*send, "--bearer-env", "CREDENTIAL", fails=True, CREDENTIAL="wrong")["message"]
    assert handler(*send, "--bearer-env", "CREDENTIAL", CREDENTIAL="s3cret")["role"] == "ROLE_AGENT"


def test_what_cannot_be_done_is_the_specified_error(handler: Any, agent: Any) -> None:
    url = agent("worker").url
    send = ("message", "send", "--url", url)
    refused = {
        "ContentTypeNotSupportedError": (*send, "--data", '{"a": 1}'),
        "PushNotificationNotSupportedError": (*send, "--text", TEXT, "--push-url", "http://127.0.0.1:1/"),
        "TaskNotFoundError": ("task", "get", "none", "--url", url),
    }
    for name, arguments in refused.items():
        assert handler(*arguments, fails=True)["details"]["error"] == name
