from __future__ import annotations

import sys
from typing import Any

import pytest

from streaming_queue.config import Config
from streaming_queue.config.model import Latency
from streaming_queue.errors import BackendNotInstalledError, ConfigError
from streaming_queue.llm.choice import ProviderChoice, choose
from streaming_queue.llm.mock import MockLLM
from streaming_queue.llm.openai import OpenAILLM

KEY = "sk-test-0123456789abcdef"


def chosen(core: dict[str, Any], environ: dict[str, str] | None = None, **mock: Any) -> ProviderChoice:
    config = Config.of({"core": core, "mock": mock})
    return choose(config.core, config.mock, environ=environ or {})


@pytest.mark.parametrize(
    ("core", "environ", "line"),
    [
        ({}, {}, "LLM: mock (no provider is configured; answers are made up)"),
        ({}, {"OPENAI_API_KEY": " "}, "LLM: mock (no provider is configured; answers are made up)"),
        ({"type": "mock"}, {"OPENAI_API_KEY": KEY}, "LLM: mock (core.type; answers are made up)"),
        ({"type": "mock", "name": "m", "port": 1}, {}, "LLM: mock (core.type; answers are made up)"),
        (
            {"type": "openai", "openai_api_key": KEY, "name": "m"},
            {},
            "LLM: openai, m at https://api.openai.com/v1 (core.type)",
        ),
        (
            {"openai_api_key": KEY, "name": "m"},
            {},
            "LLM: openai, m at https://api.openai.com/v1 (core.openai_api_key)",
        ),
        ({"name": "m"}, {"OPENAI_API_KEY": KEY}, "LLM: openai, m at https://api.openai.com/v1 (OPENAI_API_KEY)"),
        (
            {"openai_api_key": KEY, "name": "m"},
            {"OPENAI_API_KEY": KEY},
            "LLM: openai, m at https://api.openai.com/v1 (OPENAI_API_KEY)",
        ),
        (
            {"openai_base_url": "http://host:1/v1"},
            {},
            "LLM: openai, the first model listed at http://host:1/v1 (core.openai_base_url)",
        ),
        (
            {"name": "m"},
            {"OPENAI_BASE_URL": "http://host:1/v1"},
            "LLM: openai, m at http://host:1/v1 (OPENAI_BASE_URL)",
        ),
        ({"port": 8000, "name": "m"}, {}, "LLM: openai, m at http://127.0.0.1:8000/v1 (core.port)"),
        (
            {"base_url": "http://gpu:8000", "name": "m"},
            {"OPENAI_BASE_URL": "http://host:1/v1"},
            "LLM: openai, m at http://gpu:8000/v1 (core.base_url)",
        ),
    ],
)
def test_who_answers_and_why(core, environ, line):
    assert chosen(core, environ).describe() == line


def test_the_providers_key_is_nothing_for_a_local_server():
    llm = chosen({"port": 8000}, {"OPENAI_API_KEY": KEY}).llm
    assert isinstance(llm, OpenAILLM)
    assert llm._api_key is None


def test_the_processes_variables_are_the_default(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    config = Config.of(None)
    assert choose(config.core, config.mock).reason == "OPENAI_API_KEY"


def test_settings_reach_the_providers():
    mock = chosen({}, seed=5, latency_ms={"mean": 20, "sigma": 0.5}, failure_rate=0.25).llm
    assert isinstance(mock, MockLLM)
    alike = MockLLM(seed=5, latency_ms=Latency(mean=20, sigma=0.5))
    assert (mock.text("?"), mock.latency_ms("q")) == (alike.text("?"), alike.latency_ms("q"))
    assert mock._failure_rate == 0.25
    core = {"openai_api_key": KEY, "name": "m", "temperature": 0.5, "max_tokens": 9, "timeout_s": 3}
    openai = chosen(core).llm
    assert isinstance(openai, OpenAILLM)
    assert (openai.model, openai._api_key, openai._temperature, openai._max_tokens, openai._timeout_s) == (
        "m",
        KEY,
        0.5,
        9,
        3,
    )


@pytest.mark.parametrize("core", [{"type": "openai"}, {"name": "gpt"}])
def test_a_provider_that_cannot_be_used_is_never_the_mock(core):
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        chosen(core)


def test_a_missing_sdk_is_never_the_mock(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(BackendNotInstalledError):
        chosen({"openai_api_key": KEY})


def test_the_key_is_in_no_line_and_no_repr():
    choice = chosen({"openai_api_key": KEY, "openai_base_url": f"http://user:{KEY}@host:1/v1"})
    assert KEY not in choice.describe() + repr(choice)
