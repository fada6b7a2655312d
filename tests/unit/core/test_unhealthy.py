from __future__ import annotations

from streaming_queue.core.unhealthy import LONGEST, unhealthy
from streaming_queue.errors import AuthError, ConfigError, ConnectError, StreamingQueueError


def refused(address: str) -> ConnectError:
    return ConnectError(f"{address}: cannot connect: connection refused")


def test_equal_reasons_are_told_once_with_a_few_addresses() -> None:
    addresses = {f"W{number}": f"http://127.0.0.1:{number}" for number in range(1, 101)}
    reasons: dict[str, StreamingQueueError] = {agent: refused(address) for agent, address in addresses.items()}
    reasons["W7"] = ConnectError(f"{addresses['W7']}: no connection within 5 s")
    error = unhealthy(reasons, addresses)
    text = str(error)
    assert type(error) is ConnectError
    assert "99 of 100 agents: cannot connect: connection refused (W1 at http://127.0.0.1:1, " in text
    assert " and 96 more)" in text
    assert "W7 at http://127.0.0.1:7: no connection within 5 s" in text
    assert len(text) < 500


def test_reasons_that_all_differ_are_bounded_too() -> None:
    addresses = {f"W{number}": f"http://h:{number}" for number in range(50)}
    text = str(unhealthy({agent: ConnectError(f"{agent} " + "x" * 5000) for agent in addresses}, addresses))
    assert len(text) < 6 * LONGEST
    assert "and 45 reasons more" in text


def test_settings_at_fault_are_a_matter_of_settings() -> None:
    addresses = {"A": "stdio:x", "B": "stdio:y"}
    one, other = ConfigError("stdio:x: it has no tool 'a'"), AuthError("401")
    assert type(unhealthy({"A": one}, addresses)) is ConfigError
    assert type(unhealthy({"A": one, "B": other}, addresses)) is ConnectError
