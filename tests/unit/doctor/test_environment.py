from __future__ import annotations

import io
import os
import re
import sqlite3
import sys
import time

import pytest

from streaming_queue import __version__
from streaming_queue.doctor import environment
from streaming_queue.doctor.finding import Level


def test_python_and_our_own_version_are_named():
    (finding,) = environment.python()
    assert finding.level is Level.OK
    assert f"streaming-queue {__version__}" in finding.seen


@pytest.mark.parametrize(
    ("version", "safety", "level", "said"),
    [
        ((3, 51, 3), 3, Level.OK, "3.51.3, thread-safe"),
        ((3, 52, 0), 1, Level.OK, "3.52.0, thread-safe"),
        ((3, 51, 2), 3, Level.WARNING, "two connections .* can corrupt"),
        ((3, 33, 0), 3, Level.WARNING, "before 3.51.3"),
        ((3, 32, 3), 3, Level.PROBLEM, "too old"),
        ((3, 52, 0), 0, Level.PROBLEM, "single thread"),
    ],
)
def test_sqlite(version, safety, level, said):
    (finding,) = environment.sqlite(version, safety)
    assert finding.level is level
    assert re.search(said, finding.seen)
    assert bool(finding.remedy) is (level is not Level.OK)


def test_the_oldest_sqlite_is_the_first_with_what_the_queue_asks_for():
    """Our statements use UPDATE ... FROM, which came with 3.33; older than all else they use."""
    from streaming_queue.queue import sqlite_store

    assert "\nFROM {rows} AS v WHERE" in sqlite_store._SETTLE
    assert sqlite3.sqlite_version_info >= environment.OLDEST_SQLITE


def test_a_clock_that_can_be_right(tmp_path):
    (tmp_path / "file").touch()
    (finding,) = environment.clock([tmp_path / "file", tmp_path / "none"])
    assert finding.level is Level.OK


def test_a_clock_that_was_set_back(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.utime(path, (time.time() + 3600,) * 2)
    (finding,) = environment.clock([path])
    assert finding.level is Level.WARNING
    assert str(path) in finding.seen
    assert "NTP" in finding.remedy


def test_a_clock_before_our_own_code():
    (finding,) = environment.clock(now=86400.0)
    assert finding.level is Level.WARNING
    assert "1970-01-02" in finding.seen


@pytest.mark.parametrize(
    ("encoding", "locale", "level"),
    [
        ("utf-8", "UTF-8", Level.OK),
        ("UTF8", "utf_8", Level.OK),
        ("latin-1", "UTF-8", Level.WARNING),
        ("utf-8", "ANSI_X3.4-1968", Level.WARNING),
    ],
)
def test_the_terminal(monkeypatch, encoding, locale, level):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    monkeypatch.setattr(environment.locale, "getpreferredencoding", lambda do_setlocale: locale)
    (finding,) = environment.terminal()
    assert finding.level is level


def test_a_closed_standard_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    (finding,) = environment.terminal()
    assert finding.level is Level.WARNING


def test_variables_that_mislead(tmp_path):
    environ = {
        "http_proxy": "http://user:hunter2@proxy:3128",
        "HTTPS_PROXY": "http://proxy:3128",
        "SSL_CERT_FILE": str(tmp_path / "none.pem"),
        "SSLKEYLOGFILE": "keys.log",
    }
    findings = environment.variables(environ)
    assert [finding.level for finding in findings] == [Level.WARNING] * 3
    proxies, certificates, keys = (finding.seen for finding in findings)
    assert proxies.startswith("HTTPS_PROXY, http_proxy: agents are called without a proxy")
    assert certificates.startswith("SSL_CERT_FILE names no file")
    assert keys.startswith("SSLKEYLOGFILE")
    assert all("hunter2" not in finding.seen + finding.remedy for finding in findings)


def test_certificates_that_are_read_and_not(tmp_path):
    (tmp_path / "ca.pem").touch()
    good = {"SSL_CERT_FILE": str(tmp_path / "ca.pem"), "SSL_CERT_DIR": f"/none{os.pathsep}{tmp_path}"}
    (finding,) = environment.variables(good | {"REQUESTS_CA_BUNDLE": "/x"})
    assert finding.level is Level.OK
    (finding,) = environment.variables({"REQUESTS_CA_BUNDLE": "/x", "CURL_CA_BUNDLE": " "})
    assert finding.seen == "REQUESTS_CA_BUNDLE: these certificates are not read here"
    assert "SSL_CERT_FILE" in finding.remedy


def test_no_variable_no_finding_but_one():
    (finding,) = environment.variables({"http_proxy": " ", "PATH": "/bin"})
    assert (finding.level, finding.seen) == (Level.OK, "none that mislead")
