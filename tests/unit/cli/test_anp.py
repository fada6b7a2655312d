from __future__ import annotations

import json

import pytest

from streaming_queue.cli import main
from streaming_queue.protocol_backend.anp.identity import Identity


@pytest.fixture
def stq(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(("anp", "identity", "new", *arguments))
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


def test_an_identity_is_made_and_what_to_do_next_is_said(stq, tmp_path):
    code, out, _ = stq("me", "-o", "ids/me")
    made = Identity.load(str(tmp_path / "ids" / "me"))
    assert (code, out.splitlines()[0]) == (0, made.did)
    assert "-s anp.identity=ids/me" in out
    assert "-s 'anp.trusted=[ids/me/did.json]'" in out
    assert "publish" not in out
    assert "PRIVATE" not in out
    code, out, err = stq("me", "-o", "ids/me")
    assert (code, out) == (2, "")
    assert "not overwritten" in err


def test_as_json_and_for_a_host_of_ones_own(stq, tmp_path):
    code, out, _ = stq("--host", "agents.example.com", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["did"] == Identity.load(str(tmp_path / "agent")).did
    assert (told["document"], told["private_key"]) == ("agent/did.json", "agent/key.pem")
    assert told["document_url"].startswith("https://agents.example.com/agent/e1_")
    _, out, _ = stq("other", "--host", "agents.example.com", "--port", "8443")
    assert "publish it there" in out
    assert "https://agents.example.com:8443/other/e1_" in out


def test_what_a_did_cannot_hold(stq, tmp_path):
    for arguments in (("a b",), ("--host", "10.0.0.1")):
        code, _, err = stq(*arguments)
        assert code == 2
        assert "identity " in err
    assert list(tmp_path.iterdir()) == []
