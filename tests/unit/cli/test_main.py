from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from streaming_queue import __version__, cli, exit_codes
from streaming_queue.errors import (
    AuthError,
    BackendNotInstalledError,
    CommError,
    ConfigError,
    ConnectError,
    LLMError,
    QueueFullError,
    QuotaError,
    RateLimitedError,
    SendTimeoutError,
    StreamingQueueError,
    UnknownAgentError,
    UnknownProtocolError,
)
from streaming_queue.exit_codes import ExitCode, exit_code

STQ = [sys.executable, "-m", "streaming_queue.cli"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code


@pytest.fixture
def verb(monkeypatch):
    """An app whose only verb does what the test says."""

    def make(action):
        app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command("act")(action)
        app.callback()(lambda: None)
        monkeypatch.setattr(cli, "app", app)

    return make


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (UnknownProtocolError("x"), 2),
        (BackendNotInstalledError("x"), 2),
        (UnknownAgentError("x"), 2),
        (ConnectError("x"), 69),
        (SendTimeoutError("x"), 69),
        (QuotaError("x"), 75),
        (AuthError("x"), 77),
        (CommError("x"), 1),
        (LLMError("x"), 1),
        (RateLimitedError("x"), 1),
        (QueueFullError("x"), 1),
        (StreamingQueueError("x"), 1),
    ],
)
def test_an_error_ends_as_one_line_and_its_code(verb, capsys, error, code):
    verb(raising(error))
    assert run("act") == code == exit_code(error)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: x\n")


def test_every_code_is_documented():
    lines = set(re.findall(r"^(\d+) ", exit_codes.__doc__, re.MULTILINE))
    assert lines == {str(int(code)) for code in ExitCode}


def test_what_is_not_ours_is_unexpected(verb, capsys, monkeypatch):
    monkeypatch.delenv("STQ_DEBUG", raising=False)
    verb(raising(KeyError("missing")))
    assert run("act") == 1
    assert capsys.readouterr().err == "error: unexpected KeyError: 'missing'; STQ_DEBUG=1 shows the traceback\n"


@pytest.mark.parametrize("error", [KeyError("missing"), ConfigError("missing")])
def test_debug_shows_the_traceback(verb, capsys, monkeypatch, error):
    monkeypatch.setenv("STQ_DEBUG", "1")
    verb(raising(error))
    run("act")
    text = capsys.readouterr().err
    assert "Traceback (most recent call last)" in text
    assert text.splitlines()[-1].startswith("error: ")
    assert "STQ_DEBUG" not in text.splitlines()[-1]


def test_debug_off_by_zero(verb, capsys, monkeypatch):
    monkeypatch.setenv("STQ_DEBUG", "0")
    verb(raising(ConfigError("x")))
    run("act")
    assert capsys.readouterr().err == "error: x\n"


def test_an_error_inside_a_task_group_counts_as_itself(verb, capsys):
    async def fail():
        async with asyncio.TaskGroup() as group:
            group.create_task(refuse())

    async def refuse():
        raise AuthError("refused")

    verb(lambda: asyncio.run(fail()))
    assert run("act") == 77
    assert capsys.readouterr().err == "error: refused\n"


def test_an_error_without_text_is_named_by_its_class(verb, capsys):
    verb(raising(ConnectError()))
    assert run("act") == 69
    assert capsys.readouterr().err == "error: ConnectError\n"


def test_hostile_text_is_shown_and_not_obeyed(verb, capsys):
    verb(raising(ConfigError("a\x1b[2J\nb\u202ec\x9b\u2028 é")))
    run("act")
    assert capsys.readouterr().err == "error: a\\x1b[2J\\nb\\u202ec\\x9b\\u2028 é\n"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_only_on_a_terminal_that_wants_it(verb, capsys, monkeypatch, no_color, coloured):
    monkeypatch.setenv("NO_COLOR", no_color)
    verb(raising(ConfigError("x")))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run("act")
    assert ("\x1b[" in capsys.readouterr().err) is coloured


@pytest.mark.parametrize(("action", "code"), [(lambda: None, 0), (lambda: 3, 3), (lambda: ExitCode.STOPPED, 75)])
def test_a_verb_returns_its_code(verb, action, code):
    verb(action)
    assert run("act") == code


@pytest.mark.parametrize(
    ("error", "code"),
    [(typer.Exit(4), 4), (SystemExit(5), 5), (SystemExit(), 0), (SystemExit("x"), 1), (KeyboardInterrupt(), 130)],
)
def test_a_verb_may_leave_early(verb, error, code):
    verb(raising(error))
    assert run("act") == code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], ["No such command 'nothing'", "--help"]),
        (["confg"], ["Did you mean 'config'?"]),
        (["config"], ["Missing command", "config --help"]),
        (["config", "show", "--nope"], ["No such option", "--nope"]),
        (["config", "show", "a", "b"], ["extra argument"]),
        (["--nope"], ["--nope"]),
    ],
)
def test_wrong_usage_is_one_line_and_2(capsys, arguments, words):
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert all(word in captured.err for word in words)


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"streaming-queue {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_the_verbs(capsys, arguments):
    assert run(*arguments) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("config", "protocols", "--version"))


HEAVY = {
    "a2a",
    "openai",
    "grpc",
    "aiohttp",
    "uvicorn",
    "starlette",
    "pydantic",
    "rich",
    "yaml",
    "asyncio",
    "orjson",
    "websockets",
}


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import resource, sys\n"
        "from streaming_queue.cli import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n"
        "    usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    print(usage.ru_utime + usage.ru_stime, *{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    seconds, *modules = done.stderr.split()
    assert "Set up:" in done.stdout
    assert HEAVY.isdisjoint(modules)
    assert float(seconds) <= 0.5


def test_who_asks_another_process_loads_no_queue_and_no_other_protocol():
    code = (
        "import sys\n"
        "from streaming_queue.cli import main\n"
        "try:\n    main(['status', 'http://127.0.0.1:9', '-p', 'http'])\n"
        "finally:\n"
        "    print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 69, done.stderr
    assert {"a2a", "grpc", "nats", "openai", "rich", "sqlite3", "starlette", "uvicorn", "websockets"}.isdisjoint(
        done.stdout.split()
    )


def test_importing_the_package_loads_no_pydantic():
    code = "import streaming_queue, sys; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "False\n"


def test_a_reader_that_goes_away_is_no_noise():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run([*STQ, "config", "schema"], stdout=gone, stderr=subprocess.PIPE, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_under_stdout_is_an_error():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*STQ, "--version"], stdout=full, stderr=subprocess.PIPE, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("closed", ["1", "2"])
def test_closed_streams_do_not_change_the_code(closed):
    shell = f"exec {sys.executable} -m streaming_queue.cli config show /no/such/file {closed}>&-"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, check=False, timeout=30)
    assert done.returncode == 2
    assert done.stdout == b""


def test_a_terminal_that_cannot_show_a_character_gets_its_escape():
    done = subprocess.run(
        [*STQ, "config", "show", "-s", "core.name=☃"],
        capture_output=True,
        check=True,
        timeout=30,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )
    assert b"\\u2603" in done.stdout


@pytest.mark.parametrize("closed", ["0", "1", "2"])
def test_a_run_with_a_closed_stream_ends_well_and_lets_no_file_take_its_place(closed, tmp_path):
    arguments = "run -p inproc -n 3 -o run"
    shell = f"exec {sys.executable} -m streaming_queue.cli {arguments} {closed}>&-"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, check=False, timeout=30, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "results.jsonl").read_text().splitlines()) == 3
