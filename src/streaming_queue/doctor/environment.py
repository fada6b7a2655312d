"""Check the environment: Python, SQLite, clock, terminal, variables."""

from __future__ import annotations

import locale
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from streaming_queue import __version__
from streaming_queue.doctor.finding import Finding, ok, problem, warning

SAFE_SQLITE = (3, 51, 3)
"""In older releases two connections that write or checkpoint at the same moment can corrupt a database."""
OLDEST_SQLITE = (3, 33, 0)
"""The first release with UPDATE ... FROM, which the queue's statements use."""
CLOCK_TOLERANCE_S = 60.0
"""Largest allowed lead of a file's time: another machine may have written the file."""


def python() -> list[Finding]:
    """Report the versions of Python and of this package, and the system."""
    implementation = platform.python_implementation()
    where = f"{platform.system()} {platform.machine()}"
    return [ok("python", f"{implementation} {platform.python_version()}, streaming-queue {__version__}, {where}")]


def sqlite(
    version: tuple[int, int, int] = sqlite3.sqlite_version_info, thread_safety: int | None = None
) -> list[Finding]:
    """Check the SQLite that Python is linked with; `thread_safety` is as in `sqlite3.threadsafety`."""
    thread_safety = sqlite3.threadsafety if thread_safety is None else thread_safety
    name = ".".join(map(str, version))
    newer = "use a Python that is built with SQLite {}.{}.{} or newer"
    if version < OLDEST_SQLITE:
        return [problem("sqlite", f"{name}: too old for the queue's statements", newer.format(*OLDEST_SQLITE))]
    if thread_safety == 0:
        seen = f"{name}: compiled for a single thread, but the queue writes in a thread of its own"
        return [problem("sqlite", seen, "use a Python whose SQLite is compiled thread-safe")]
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("SELECT json_group_array(value) FROM json_each('[1]')")
    except sqlite3.Error:
        seen = f"{name}: compiled without JSON, which the queue's statements use"
        return [problem("sqlite", seen, newer.format(*OLDEST_SQLITE))]
    if version < SAFE_SQLITE:
        seen = (
            f"{name}: before {'.'.join(map(str, SAFE_SQLITE))}, two connections that write or checkpoint at the same "
            "moment can corrupt a database; a run has one such connection"
        )
        return [warning("sqlite", seen, f"{newer.format(*SAFE_SQLITE)}, or let no other program write to a queue.db")]
    return [ok("sqlite", f"{name}, thread-safe")]


def clock(files: Iterable[Path] = (), *, now: float | None = None) -> list[Finding]:
    """Check the monotonic clock, and the wall clock against our own code and `files`."""
    if not time.get_clock_info("monotonic").monotonic:
        return [problem("clock", "the system has no monotonic clock", "leases need one: use another system")]
    now = time.time() if now is None else now
    shown = datetime.fromtimestamp(now, UTC).isoformat(sep=" ", timespec="seconds")
    newest = max(filter(None, map(_modified, (Path(__file__), *files))), default=(0.0, Path()))
    ahead_s = newest[0] - now
    if ahead_s > CLOCK_TOLERANCE_S:
        seen = f"{shown}, yet {newest[1]} was changed {ahead_s:,.0f} s later"
        return [warning("clock", seen, "set this machine's clock, best by NTP: times in results and TLS depend on it")]
    return [ok("clock", shown)]


def _modified(path: Path) -> tuple[float, Path] | None:
    try:
        return path.stat().st_mtime, path
    except OSError:
        return None


def terminal() -> list[Finding]:
    """Check whether the terminal shows text of any language."""
    shown = getattr(sys.stdout, "encoding", None) or "none"
    wanted = locale.getpreferredencoding(do_setlocale=False)
    if all(_is_utf8(name) for name in (shown, wanted)):
        return [ok("terminal", "UTF-8")]
    seen = f"standard output is written in {shown}, the locale wants {wanted}: missing characters are shown as escapes"
    return [warning("terminal", seen, "set PYTHONUTF8=1, or a locale like LANG=C.UTF-8; files are UTF-8 in any case")]


def _is_utf8(name: str) -> bool:
    return name.lower().replace("-", "").replace("_", "") == "utf8"


def variables(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Check environment variables that have no effect here, or that change TLS. Values are not shown."""
    given = {name for name, value in environ.items() if value.strip()}
    findings = []
    if proxies := sorted(name for name in given if name.lower() in ("http_proxy", "https_proxy", "all_proxy")):
        seen = f"{', '.join(proxies)}: agents are called without a proxy, only the model with it"
        findings.append(warning("variables", seen, "for a model on this network, name its host in NO_PROXY"))
    for name, exists in (("SSL_CERT_FILE", os.path.isfile), ("SSL_CERT_DIR", os.path.isdir)):
        if name in given and not any(exists(part) for part in environ[name].split(os.pathsep)):
            seen = f"{name} names no file: the certificates that TLS trusts are missing"
            findings.append(warning("variables", seen, f"correct or unset {name}"))
    if unread := sorted(given & {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} if "SSL_CERT_FILE" not in given else ()):
        seen = f"{', '.join(unread)}: these certificates are not read here"
        findings.append(warning("variables", seen, "name the file in SSL_CERT_FILE"))
    if "SSLKEYLOGFILE" in given:
        seen = "SSLKEYLOGFILE: the secrets of TLS connections are written to a file"
        findings.append(warning("variables", seen, "unset it, unless you want to read the traffic"))
    return findings or [ok("variables", "none that mislead")]
