"""Identities between processes: made by the command, trusted by the configuration, refused without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.interop
def test_a_thousand_questions(stq) -> None:
    done = stq("run", "-q", stq.questions(1000), "-p", "anp", "-w", "4", "-o", "run", "-s", "mock.latency_ms=1")
    assert done.returncode == 0, done.stderr
    rows = stq.rows()
    assert sorted(row["question_id"] for row in rows) == sorted(f"q{number}" for number in range(1000))
    assert {(row["protocol"], row["status"], row["attempts"]) for row in rows} == {("anp", "success", 1)}


def test_a_worker_answers_whom_it_trusts(stq, worker) -> None:
    made = json.loads(stq("anp", "identity", "new", "boss", "-o", "ids/boss", "--json").stdout)
    assert Path(stq.directory, made["private_key"]).stat().st_mode & 0o777 == 0o600
    address = worker("-s", f"anp.trusted=[{made['document']}]", protocol="anp").address
    asking = ("run", "-n", "20", "-p", "anp", "-s", f"qa.worker.endpoints=[{address}]")
    done = stq(*asking, "-o", "known", "-s", "anp.identity=ids/boss")
    assert done.returncode == 0, done.stderr
    assert len(stq.rows("known")) == 20
    refused = stq("ask", address, "q", "-p", "anp")
    assert (refused.returncode, refused.stdout) == (77, "")
    assert "this agent does not trust it; we call as did:wba:localhost:ephemeral:e1_" in refused.stderr
    assert "anp.trusted" in refused.stderr
    assert stq("doctor", address, "-p", "anp").returncode == 77
    unknown = stq(*asking, "-o", "unknown")
    assert unknown.returncode != 0
    assert "does not trust it" in unknown.stderr
    assert "Traceback" not in refused.stderr + unknown.stderr


def test_a_token_in_place_of_an_identity_is_refused(stq) -> None:
    done = stq("run", "-n", "1", "-p", "anp", "-s", "network.token=secret")
    assert done.returncode == 2
    assert "anp.trusted" in done.stderr
    missing = stq("run", "-n", "1", "-p", "anp", "-s", "anp.identity=nowhere")
    assert missing.returncode == 2
    assert "nowhere/did.json: cannot be read" in missing.stderr
    assert "stq anp identity new" in missing.stderr
