"""docs/auto.md says what is true; its command is run with those of every page (test_readme.py)."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import yaml

from streaming_queue.config import Auto, Config
from streaming_queue.core.scheduling.auto import ProtocolChoice
from streaming_queue.core.scheduling.bandit import (
    ENOUGH,
    MOST_FAILURES,
    MOST_SHIFTS,
    MUCH_WORSE,
    SLACK_MS,
    WINDOW,
    Bandit,
    Pull,
    Standing,
)
from streaming_queue.errors import ConfigError
from streaming_queue.runner.requirements import check_requirements

TEXT = (Path(__file__).parents[2] / "docs" / "auto.md").read_text(encoding="utf-8")
FLOWING = " ".join(TEXT.split())


def test_the_example_is_a_choice_that_can_be_made():
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    config = Config.of(yaml.safe_load(example))
    check_requirements(config)
    assert config.auto != Auto()


def test_the_error_shown_is_the_real_one():
    (shown,) = re.findall(r"```text\n(.*?)\n```", TEXT, re.DOTALL)
    groups = [{"protocol": "http"}, {"protocol": "a2a"}]
    with pytest.raises(ConfigError) as caught:
        check_requirements(Config.of({"protocol": "auto", "workers": groups, "auto": {"identity": True}}))
    assert str(caught.value) == shown


def test_the_figures_named_are_the_ones_in_force():
    assert f"The last {WINDOW} results of each protocol decide, once there are {ENOUGH}" in FLOWING
    assert f"{MOST_FAILURES + 1} or more of them failed" in FLOWING
    assert MUCH_WORSE == 2
    assert f"more than twice that of the best protocol plus {SLACK_MS:g} ms" in FLOWING
    assert WINDOW // 2 + 1 == 4
    assert f"`auto.exploration` ({Auto().exploration:g})" in FLOWING
    assert f"the last {MOST_SHIFTS} changes" in FLOWING


def test_every_key_of_the_report_is_named():
    named = set(re.findall(r"`([a-z_ ]+)`", TEXT))
    choice = ProtocolChoice(Auto(), ["W"], protocol_of=lambda _: "ws", emit=lambda _: None)
    report = choice.report()
    assert set(report) | set(report["protocols"]["ws"]) <= named
    assert {*map(str, Pull), *map(str, Standing)} <= named
    bandit = Bandit("ab", exploration=0.1, draw=random.Random(0).random)
    for name, cost_ms in {"a": 1.0, "b": 500.0}.items():
        for _ in range(WINDOW):
            bandit.answered(name, cost_ms=cost_ms, work_ms=None)
    assert set(bandit.report()["shifts"][0]) <= named
