from __future__ import annotations

import subprocess
import sys

import pytest

from streaming_queue.config import Config
from streaming_queue.doctor.finding import Level
from streaming_queue.doctor.limits import BASE_FILES, files_needed, open_files

POOLS = {
    "network": {
        "topology": "hierarchical",
        "pools": {"A": {"count": 1, "protocol": "inproc"}, "B": {"count": 1, "protocol": "http"}, "C": ["Worker-3"]},
    }
}
LIMITED = """
import resource, sys
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from streaming_queue.config import Config
from streaming_queue.doctor.limits import open_files
(finding,) = open_files(Config())
print(finding.level, finding.code, finding.seen, finding.remedy, sep="|")
"""


def limited(soft, hard):
    command = [sys.executable, "-c", LIMITED, str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip().split("|")


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ({}, 4 + 32 * 3),
        ({"protocol": "a2a", "qa": {"worker": {"count": 2, "concurrency": 5}}}, 2 + 10 * 3),
        ({"protocol": "inproc"}, 4 + 32),
        ({"qa": {"worker": {"mode": "process"}}}, 4 + 32),
        (POOLS, 3 + 8 * (1 + 2 * 3 + 3 * 2)),
        (POOLS | {"protocol": "inproc"}, 3 + 8 * (1 + 1 + 3)),
        ({"qa": {"worker": {"endpoints": ["http://a:1", "http://b:1"], "concurrency": 5}}}, 2 + 10),
        ({"workers": [{"protocol": "ws"}, {"protocol": "inproc"}, {"endpoints": ["http://a:1"]}]}, 3 + 8 * (3 + 1 + 1)),
    ],
)
def test_what_a_run_needs(settings, files):
    assert files_needed(Config.of(settings)) == BASE_FILES + files


def test_a_limit_that_suffices():
    level, _, seen, _ = limited(512, 1024)
    assert (level, seen) == ("ok", "limit 512, a run needs up to 132")


def test_a_limit_that_can_be_raised():
    level, code, seen, remedy = limited(64, 1024)
    assert (level, code) == ("problem", "2")
    assert seen.startswith("limit 64, but a run needs up to 132")
    assert remedy.startswith("ulimit -n 132, or lower")


def test_a_limit_that_cannot():
    level, _, _, remedy = limited(64, 100)
    assert level == "problem"
    assert remedy.endswith("have the hard limit (100) raised")


def test_no_limit(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    (finding,) = open_files(Config())
    assert (finding.level, finding.seen) == (Level.OK, "limit unlimited, a run needs up to 132")
