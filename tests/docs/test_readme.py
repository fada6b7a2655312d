"""What the documents show works: every `$` command is run, every link leads somewhere, the backend shown is a backend."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
from docs.background import in_background

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.zh-CN.md")
CONSOLE = "```console\n$ "
ELSEWHERE = ("docs/guide/", "docs/repair.md")  # what they show needs what came before: tests of their own
SHOWN = (str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md") if CONSOLE in page.read_text())
OTHERS = sorted(name for name in SHOWN if not name.startswith(ELSEWHERE))
PAGES = (READMES[0], *(pytest.param(name, marks=pytest.mark.interop) for name in OTHERS))


def commands(name: str) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def provider() -> Iterator[dict[str, str]]:
    """The variables that lead to a compatible server on this machine."""
    command = [sys.executable, str(ROOT / "tests" / "e2e" / "openai_process.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield {"OPENAI_API_KEY": "right-key", "OPENAI_BASE_URL": process.stdout.readline().strip()}
        process.kill()


@pytest.mark.parametrize("name", PAGES)
def test_every_command_shown_works(name: str, tmp_path: Path, provider: dict[str, str], fixed_ports: None) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for command, run in (("stq", f'"{sys.executable}" -m streaming_queue.cli'), ("python", f'"{sys.executable}"')):
        (bin_ / command).write_text(f'#!/bin/sh\nexec {run} "$@"\n')
        (bin_ / command).chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
    shown = commands(name)
    assert shown
    with ExitStack() as served:
        for command in shown:
            if command.endswith(" &"):
                served.enter_context(in_background(command, tmp_path, environment))
                continue
            given = environment | (provider if "--llm openai" in command else {})
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=100, check=False
            )
            assert done.returncode == 0, f"{command}: {done.stderr}"


def test_both_readmes_show_the_same_commands_and_the_two_of_the_first_screen() -> None:
    english, chinese = map(commands, READMES)
    assert english == chinese
    for name in READMES:
        first_screen = "\n".join((ROOT / name).read_text().splitlines()[:40])
        assert "make run" in first_screen
        assert "make test" in first_screen
        assert "MOCK" in first_screen


def test_the_makefile_has_what_the_documents_name() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in (*READMES, "CONTRIBUTING.md"):
        named = set(re.findall(r"^make (\w+)", (ROOT / name).read_text(), re.MULTILINE))
        assert named <= targets, name


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_backend_that_contributing_shows_answers_questions(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (tmp_path / "your_module.py").write_text(code)

    class Worker(StreamRequestHandler):
        def handle(self) -> None:
            text = json.loads(self.rfile.readline())
            self.wfile.write(json.dumps("pong" if text == "ping" else f"echo {text}").encode() + b"\n")

    with ThreadingTCPServer(("127.0.0.1", 0), Worker) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        address = f"tcp://127.0.0.1:{server.server_address[1]}"
        command = [
            sys.executable, "-m", "streaming_queue.cli", "run", "-p", "your_module:LineCommBackend", "-o", "run",
            "-q", str(ROOT / "examples" / "questions.jsonl"), "-s", f"qa.worker.endpoints=[{address}]",
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        server.shutdown()
        serving.join(5)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert {row["answer"] for row in rows} == {f"echo {row['question']}" for row in rows}
    assert {row["protocol"] for row in rows} == {"line"}
