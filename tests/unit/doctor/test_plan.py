from __future__ import annotations

import asyncio
import os
import re

import pytest

from streaming_queue.config import Config
from streaming_queue.doctor import plan as module
from streaming_queue.doctor.examination import examine
from streaming_queue.doctor.plan import plan_for
from streaming_queue.errors import ConfigError
from streaming_queue.report.run_directory import RunDirectory

GROUND = ["python", "sqlite", "clock", "terminal", "variables", "protocols", "openai"]
WORK = ["protocol", "output", "questions", "ports", "open files", "provider"]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def examined(plan):
    return asyncio.run(examine(plan.checks))


def names(plan):
    return [check.name for check in plan.checks]


def run(state, config=None):
    directory = RunDirectory.create("run", "http", {"config": Config.of(config).public()})
    directory.update(state=state)
    return directory


def test_the_settings(tmp_path):
    expected = [*GROUND, "file system", "configuration", *WORK]
    assert names(plan_for(None, None)) == expected
    (tmp_path / "c.yaml").touch()
    assert names(plan_for("c.yaml", None)) == names(plan_for(None, tmp_path / "c.yaml")) == expected


def test_workers_elsewhere_are_looked_at_and_have_a_model_of_their_own():
    plan = plan_for(None, None, sets=["qa.worker.endpoints=[http://a:1, http://b:1]"])
    assert names(plan)[-2:] == ["agent", "agent"]
    assert "provider" not in names(plan)


def test_every_protocol_of_a_hierarchy_and_each_of_its_workers_is_looked_at():
    pools = "network.pools={A: {count: 1, protocol: http}, B: {count: 1, protocol: inproc}, C: {count: 1}}"
    sets = ["network.topology=hierarchical", pools, "qa.worker.endpoints=[http://a:1, inproc://b, http://c:1]"]
    plan = plan_for(None, None, sets=sets)
    assert names(plan).count("protocol") == 3
    assert names(plan)[-3:] == ["agent", "agent", "agent"]


def test_every_protocol_worker_and_model_of_a_mixed_network_is_looked_at():
    groups = "workers=[{protocol: ws}, {protocol: http, endpoints: [http://a:1]}, {protocol: ws, core: {name: m}}, {}]"
    plan = plan_for(None, None, sets=[groups])
    assert names(plan).count("protocol") == 3
    assert names(plan)[-3:] == ["provider", "provider", "agent"]


def test_the_keys_of_groups_are_hidden():
    plan = plan_for(
        None, None, sets=["workers=[{core: {openai_api_key: of-a-group}}]", "core.openai_api_key=of-the-run"]
    )
    assert set(plan.secrets) == {"of-a-group", "of-the-run"}


def test_an_address():
    assert names(plan_for("http://127.0.0.1:9", None)) == [*GROUND, "configuration", "agent"]


@pytest.mark.parametrize(("state", "work"), [("done", []), ("stopped", WORK), ("running", WORK), ("failed", WORK)])
def test_a_run_is_looked_at_with_what_a_resume_needs(state, work):
    run(state)
    assert names(plan_for("run", None)) == [*GROUND, "file system", *work, "run"]


def test_a_run_that_is_going_on_has_what_it_needs(monkeypatch):
    run("running")
    monkeypatch.setattr(module, "owner_of", lambda _: "process 7")
    assert names(plan_for("run", None)) == [*GROUND, "file system", "run"]


def test_a_directory_of_something_else(tmp_path):
    (tmp_path / "other").mkdir()
    assert names(plan_for("other", None)) == [*GROUND, "file system", "run"]


def test_the_settings_of_a_run_are_its_own():
    run("stopped", {"qa": {"worker": {"endpoints": ["http://a:1"]}}})
    assert names(plan_for("run", None))[-2:] == ["agent", "run"]
    assert names(plan_for("run", None, sets=["qa.worker.endpoints=[]"]))[-2:] == ["provider", "run"]


def test_settings_of_a_run_that_cannot_be_used():
    directory = run("stopped")
    directory.update(config={"qa": {"worker": {"cuont": 3}}})
    plan = plan_for("run", None)
    assert names(plan) == [*GROUND, "file system", "configuration", "run"]
    (finding,) = (finding for finding in examined(plan) if finding.check == "configuration")
    assert finding.code == 2
    assert "did you mean qa.worker.count" in finding.seen


@pytest.mark.parametrize("text", ["qa: {worker: {cuont: 3}}", "qa: [", "\xff"])
def test_unusable_settings_are_one_of_the_findings(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text, encoding="latin-1")
    plan = plan_for("c.yaml", None)
    assert names(plan) == [*GROUND, "configuration"]
    *ground, finding = examined(plan)
    assert finding.code == 2
    assert "c.yaml:1" in finding.seen
    assert {found.code for found in ground} == {0}
    assert names(plan_for("http://a:1", tmp_path / "c.yaml", protocol="http")) == [*GROUND, "configuration"]


@pytest.mark.parametrize(
    ("target", "config", "protocol", "said"),
    [
        ("none.yaml", None, None, "none.yaml: no run's directory, no file of settings, and no address"),
        ("127.0.0.1:9001", None, None, "begins with its scheme: http://127.0.0.1:9001"),
        ("run", "c.yaml", None, "its run.json has the settings: leave out CONFIG and -p"),
        ("run", None, "http", "leave out CONFIG and -p"),
        ("c.yaml", "c.yaml", None, "is a file of settings already"),
        (os.devnull, None, None, "no file of settings"),
    ],
)
def test_wrong_usage(tmp_path, target, config, protocol, said):
    (tmp_path / "c.yaml").touch()
    run("done")
    with pytest.raises(ConfigError, match=re.escape(said)):
        plan_for(target, tmp_path / config if config else None, protocol=protocol)


def test_the_secrets_are_known_wherever_they_stand(tmp_path, monkeypatch):
    (tmp_path / "c.yaml").write_text("core: {openai_api_key: from-the-file}")
    assert plan_for("c.yaml", None).secrets == ("from-the-file",)
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    sets = ["core.openai_api_key=from-a-flag", "network.token=the-token", "network.operator_token=the-other"]
    known = {"from-the-environment", "from-a-flag", "the-token", "the-other"}
    assert set(plan_for("c.yaml", None, sets=sets).secrets) == known
    (tmp_path / "c.yaml").write_text("core: {openai_api_key: from-the-file, nonsense: 1}")
    assert set(plan_for("c.yaml", None).secrets) == {"from-the-environment"}


@pytest.mark.parametrize(
    ("sets", "check", "code"),
    [
        ([], "questions", 0),
        (["qa.coordinator.data_file=-"], "questions", 0),
        (["qa.coordinator.data_file=none.jsonl"], "questions", 2),
        (["output.dir=run"], "output", 2),
        (["output.dir=new"], "output", 0),
        (["protocol=htpt"], "protocol", 2),
    ],
)
def test_what_a_run_would_refuse_is_a_problem(sets, check, code):
    run("stopped").queue_path.touch()
    findings = examined(plan_for(None, None, sets=sets))
    (finding,) = (finding for finding in findings if finding.check == check)
    assert finding.code == code
