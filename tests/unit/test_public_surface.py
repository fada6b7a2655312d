from __future__ import annotations

import subprocess
import sys

import pytest

import streaming_queue
from streaming_queue import errors

HEAVY = (
    "a2a",
    "aiohttp",
    "anp",
    "grpc",
    "openai",
    "pydantic",
    "rich",
    "starlette",
    "typer",
    "uvicorn",
    "websockets",
    "yaml",
)


def test_the_public_names_are_a_decision() -> None:
    assert [name for name in streaming_queue.__all__ if name != "__version__"] == [
        "BaseCommBackend",
        "Capabilities",
        "CommError",
        "Config",
        "CoordinatorExecutor",
        "EndpointOptions",
        "HostOptions",
        "NetworkBase",
        "QACoordinatorBase",
        "QAWorkerBase",
        "Question",
        "RequestContext",
        "Result",
        "RunnerBase",
        "SQLiteQueue",
        "StreamingQueueError",
        "WorkQueue",
        "WorkerExecutor",
        "load_config",
    ]
    assert len(streaming_queue.__all__) <= 20


@pytest.mark.parametrize("name", streaming_queue.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(streaming_queue, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = streaming_queue.Nothing


@pytest.mark.parametrize("code", ["import streaming_queue", "import streaming_queue.cli"])
def test_importing_loads_no_heavy_module(code: str) -> None:
    allowed = {"typer"} if "cli" in code else set()
    heavy = tuple(set(HEAVY) - allowed)
    script = f"{code}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_error_is_drawn_in_the_tree_and_has_a_code_of_its_own() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert all(cls.__name__ in (errors.__doc__ or "") for cls in classes)
    assert len(errors.ERRORS_BY_CODE) == len(classes)


@pytest.mark.parametrize("code", sorted(errors.ERRORS_BY_CODE))
def test_an_error_crosses_a_wire_as_itself(code: str) -> None:
    cls = errors.ERRORS_BY_CODE[code]
    event = errors.error_event(cls("what happened", retry_after_s=2.5, retryable=True))
    back = errors.error_from_event(event, "http://peer")
    assert type(back) is cls
    assert (back.retryable, back.retry_after_s) == (True, 2.5)
    assert str(back) == "http://peer: what happened"


def test_a_foreign_exception_keeps_its_text_to_itself() -> None:
    event = errors.error_event(ValueError("password=hunter2"))
    assert event["code"] == "agent_failed"
    assert "hunter2" not in str(event)
    assert "ValueError" in event["message"]


@pytest.mark.parametrize("wish", [2.5, 0, 1e9])
def test_a_wish_to_wait_crosses_a_wire(wish: float) -> None:
    assert errors.error_from_event({"retry_after_s": wish}).retry_after_s == wish


@pytest.mark.parametrize("wish", ["2", True, -0.1, float("nan"), float("inf"), 2e9, 10**400, [2], {"s": 2}, None])
def test_a_wish_that_is_no_time_is_none(wish: object) -> None:
    assert errors.error_from_event({"retry_after_s": wish}).retry_after_s is None
    assert errors.error_event(errors.RemoteError(retry_after_s=wish))["retry_after_s"] is None  # type: ignore[arg-type]


@pytest.mark.parametrize("event", [{}, {"code": "no such code"}, {"code": 7, "message": None, "retryable": "yes"}])
def test_an_unknown_failure_is_a_remote_error(event: dict) -> None:
    assert type(errors.error_from_event(event)) is errors.RemoteError
