"""No text of others commands a terminal, whichever way it comes out."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import threading
import unicodedata
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.telemetry.runs import Terminal, answered, started

from streaming_queue import cli
from streaming_queue.cli import dlq, text
from streaming_queue.cli.doctor import page
from streaming_queue.cli.steer import workers_table
from streaming_queue.doctor.finding import problem
from streaming_queue.messages import Failure
from streaming_queue.telemetry import json_log, log_lines
from streaming_queue.telemetry.console import Output, render_summary
from streaming_queue.telemetry.events import DeadLettered, Notice, WorkerDown
from streaming_queue.telemetry.json_lines import JsonLines
from streaming_queue.telemetry.live import LiveView
from streaming_queue.telemetry.progress import RunProgress
from streaming_queue.telemetry.safe_console import SafeConsole

OWN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What colours and moves the cursor: ours, where there is a terminal."""
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202eabc\u2066\u200f\u061c\u2028\u2029\u200b\ufeff\U000e0041\r\n[SUCCESS] all is well"
FOREIGN = st.lists(
    st.sampled_from([*HOSTILE, "[red]x[/red]", "中", "x" * 5000]) | st.text(max_size=5), max_size=12
).map("".join)


def harmless(shown: str, *, own: bool = False) -> None:
    shown = OWN.sub("", shown) if own else shown
    for character in set(shown) - set("\n\t"):
        assert unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}, ascii(character)
        assert character not in HOSTILE or character.isprintable(), ascii(character)


def output_line(foreign: str) -> str:
    return said(lambda stream: Output(stderr=stream).error(foreign))


def buried(foreign: str) -> str:
    return said(lambda stream: Output(stderr=stream)(DeadLettered(foreign, Failure(foreign, foreign, foreign), 1)))


def worker_down(foreign: str) -> str:
    return said(lambda stream: Output(stderr=stream)(WorkerDown(foreign, foreign)))


def on_a_terminal(foreign: str) -> str:
    stream = Terminal()
    Output(stderr=stream, stdout=io.StringIO())(Notice("warning", foreign))
    return stream.getvalue()


def log_line(foreign: str) -> str:
    return printed(lambda: log_lines.LogLines().emit(record(foreign)))


def json_record(foreign: str) -> str:
    return said(lambda stream: json_log.JsonLogHandler(stream).emit(record(foreign)))


def json_rows(foreign: str) -> str:
    stream = io.BytesIO()
    JsonLines(stream).result({"id": foreign, foreign: foreign})
    assert foreign.encode("utf-8", "replace").decode() in json.loads(stream.getvalue()).values()
    return stream.getvalue().decode()


def summary(foreign: str) -> str:
    told = {
        "state": foreign,
        "run_id": foreign,
        "provider": {"name": foreign, "reason": foreign},
        "mock": True,
        "protocols": {foreign: {}, "other": {}},
        "workers": {foreign: {"answered": 1}},
        "concurrency": {foreign: 3},
        "files": [foreign],
    }
    return said(lambda stream: render_summary(told, stream))


def live(foreign: str) -> str:
    progress = RunProgress(lambda: 0.0)
    progress.apply(started())
    progress.apply(answered("q", foreign))
    progress.apply(WorkerDown(foreign, foreign))
    return drawn(LiveView(progress))


def drawn_without_care(foreign: str) -> str:
    return drawn(foreign)


def drawn(renderable) -> str:
    stream = io.StringIO()
    SafeConsole(file=stream, width=100, markup=False, highlight=False, force_terminal=True).print(renderable)
    return stream.getvalue()


def error_line(foreign: str) -> str:
    shown = printed(lambda: text.print_error(foreign))
    assert shown.count("\n") == 1
    return shown


def workers_list(foreign: str) -> str:
    row = {"id": foreign, "state": foreign, "protocol": foreign, "address": foreign}
    row |= {"busy": 0, "limit": 1, "answered": 0, "failed": 0}
    return printed(lambda: text.echo(workers_table([row])))


def finding(foreign: str) -> str:
    return printed(lambda: [text.echo(*line) for line in page([problem(foreign, foreign, foreign)])])


def dead_letter(foreign: str) -> str:
    return printed(lambda: text.echo(dlq.full_text(foreign, "  ")))


def json_document(foreign: str) -> str:
    shown = printed(lambda: text.print_json({"a": foreign}))
    assert json.loads(shown) == {"a": foreign}
    return shown


def said(act) -> str:
    stream = io.StringIO()
    act(stream)
    return stream.getvalue()


def printed(act) -> str:
    written = io.BytesIO()
    out = io.TextIOWrapper(written, encoding="utf-8", write_through=True)
    with redirect_stdout(out), redirect_stderr(out):
        act()
    return written.getvalue().decode()


def record(foreign: str) -> logging.LogRecord:
    try:
        raise ValueError(foreign)
    except ValueError:
        return logging.LogRecord("a", logging.WARNING, "a", 1, "task %s", (foreign,), sys.exc_info())


PLAIN = [
    output_line, buried, worker_down, log_line, json_record, json_rows, summary, error_line, workers_list, finding,
    dead_letter, json_document,
]  # fmt: skip


@pytest.mark.parametrize("way_out", PLAIN)
@settings(max_examples=30, deadline=None)
@given(foreign=FOREIGN)
def test_no_hostile_character_comes_out(way_out, foreign):
    harmless(way_out(foreign))
    harmless(way_out(HOSTILE))


@pytest.mark.parametrize("way_out", [on_a_terminal, live, drawn_without_care])
@settings(max_examples=30, deadline=None)
@given(foreign=FOREIGN)
def test_nor_onto_a_terminal(way_out, foreign):
    harmless(way_out(foreign.replace("\x1b[", "\x1b]")), own=True)
    harmless(way_out(HOSTILE.replace("\x1b[", "\x1b]")), own=True)


@pytest.mark.parametrize("way_out", [on_a_terminal, drawn_without_care])
def test_markup_is_text(way_out):
    assert "[red]x[/red] [link=http://a]y[/link]" in way_out("[red]x[/red] [link=http://a]y[/link]")


@pytest.mark.parametrize("way_out", [output_line, log_line, json_record, error_line, workers_list])
def test_a_line_is_bounded(way_out):
    assert len(way_out("x" * 1_000_000)) < 40_000


def test_an_answer_goes_into_a_pipe_unchanged_and_keeps_its_lines_on_a_terminal():
    assert printed(lambda: text.echo_answer(HOSTILE, nl=False)) == HOSTILE
    stream = Terminal()
    with redirect_stdout(stream):
        text.echo_answer(HOSTILE)
    harmless(stream.getvalue())
    assert stream.getvalue().endswith("\\r\n[SUCCESS] all is well\n")


class Peer(BaseHTTPRequestHandler):
    """An agent whose every word is hostile."""

    def do_GET(self):
        address = f"http://127.0.0.1:{self.server.server_port}"
        card = {"name": HOSTILE, "description": HOSTILE, "version": HOSTILE, "skills": [], "capabilities": {}}
        card |= {"defaultInputModes": ["text"], "defaultOutputModes": ["text"]}
        card["supportedInterfaces"] = [{"url": address, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}]
        self._answer({"agents": [card | {"name": "a"}], "status": HOSTILE, **card})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"jsonrpc": "2.0", "id": HOSTILE, "error": {"code": 1, "message": HOSTILE}, "status": HOSTILE})

    def _answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    "arguments", [("ask", "{}", "q"), ("status", "{}"), ("doctor", "{}"), ("ask", "{}", "q", "--json")]
)
@pytest.mark.parametrize("protocol", ["a2a", "acp", "http"])
def test_what_a_peer_says_comes_out_harmless(capsys, protocol, arguments):
    with HTTPServer(("127.0.0.1", 0), Peer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            with pytest.raises(SystemExit):
                cli.main([argument.format(address) for argument in arguments] + ["-p", protocol])
        finally:
            server.shutdown()
    captured = capsys.readouterr()
    harmless(captured.out + captured.err)


def test_the_command_line_logs_safe_and_bounded_lines():
    code = (
        "import logging\n"
        "from streaming_queue.cli import app, main\n"
        "def act():\n"
        "    logging.getLogger('of.others').warning('task %s %s', '\\x1b[2J\\u202e\\n[SUCCESS] done', 'x' * 9000)\n"
        "    logging.getLogger('of.others').warning('two %s', 1, 2)\n"
        "app.command()(act)\n"
        "main(['act'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    first, forged, misfit = done.stderr.splitlines()
    assert (done.returncode, first) == (0, r"[WARNING] task \x1b[2J\u202e")
    assert forged.startswith("          [SUCCESS] done xxx")
    assert len(first + forged) < 2100
    assert misfit == "[WARNING] two %s (1, 2)"
