"""Run the kit on a backend by name, in another process, and read its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path

from streaming_queue.comm import registry
from streaming_queue.comm.base import Capabilities
from streaming_queue.errors import StreamingQueueError
from streaming_queue.testing.collector import REPORT_VARIABLE
from streaming_queue.testing.report import Report

BACKEND_VARIABLE = "STQ_CONTRACT_BACKEND"
ENDPOINT_VARIABLE = "STQ_CONTRACT_ENDPOINT"
ECHOES_VARIABLE = "STQ_CONTRACT_ECHOES"
RUN_BOUND_S = 900.0
_ANSWERED = (0, 1)
"""Exit codes of pytest for a complete run: all passed, some failed."""


def run_kit(name: str, *, endpoint: str | None = None, echoes: bool = False, junit: Path | None = None) -> Report:
    """Check the backend of that name, or of that `package.module:Class`, against the contract.

    `endpoint` is an agent to ask instead of hosted agents; `echoes` says that it answers with the question's text.
    `junit` is the path of a JUnit XML file to write. The user's settings of pytest do not change the report.

    Raises:
        UnknownProtocolError, BackendNotInstalledError: from `comm.registry.load`.
        StreamingQueueError: the checks did not run to their end.
    """
    backend = registry.load(name)
    claims = getattr(backend, "capabilities", Capabilities())
    variables = {BACKEND_VARIABLE: name}
    if endpoint is not None:
        variables |= {ENDPOINT_VARIABLE: endpoint} | ({ECHOES_VARIABLE: "1"} if echoes else {})
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stq-contract-") as directory:
        written = Path(directory) / "checks.json"
        command = _pytest(name, directory, junit)
        environment = _environment(variables | {REPORT_VARIABLE: str(written)})
        try:
            done = subprocess.run(  # noqa: S603 (our own interpreter and file)
                command, env=environment, capture_output=True, errors="replace", timeout=RUN_BOUND_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise StreamingQueueError(f"protocol {name!r}: the checks did not end within {RUN_BOUND_S:g} s") from error
        if done.returncode not in _ANSWERED or not written.exists():
            said = f"{done.stdout[-300:].strip()} {done.stderr[-1500:].strip()}"
            raise StreamingQueueError(f"protocol {name!r}: the checks ended with {done.returncode}: {said}")
        checks = json.loads(written.read_text(encoding="utf-8"))
    return Report.of(
        checks,
        protocol=getattr(backend, "name", "") or name,
        backend=f"{backend.__module__}:{backend.__qualname__}",
        claims=tuple(field.name for field in fields(Capabilities) if getattr(claims, field.name, False)),
        seconds=time.monotonic() - started,
    )


def _pytest(name: str, directory: str, junit: Path | None) -> list[str]:
    """The command of the checks: without configuration and conftest, with the two necessary plug-ins only."""
    return [
        *(sys.executable, "-P", "-m", "pytest", str(Path(__file__).with_name("suite.py"))),
        *("-c", os.devnull, "--rootdir", directory, "--noconftest", "--import-mode=importlib"),
        *("-p", "pytest_asyncio.plugin", "-p", "streaming_queue.testing.collector", "-p", "no:cacheprovider"),
        *("-v", "--no-header", "--tb=no", "--capture=sys"),
        *("-o", f"junit_suite_name={name}", "-o", "asyncio_default_fixture_loop_scope=function"),
        *(("--junit-xml", str(junit.absolute())) if junit else ()),
    ]


def _environment(variables: dict[str, str]) -> dict[str, str]:
    """Our environment without the settings of pytest, with the same import path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "STQ_CONTRACT_"))}
    found = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": found, **variables}
