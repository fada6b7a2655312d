"""An MCP server on standard input and output, by the standard library alone; its first argument says how it is."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

HOW = sys.argv[1] if len(sys.argv) > 1 else ""
ASK = {"name": "ask", "inputSchema": {"type": "object", "properties": {"question": {"type": "string"}}}}


def say(document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def reply(number: object, result: object) -> None:
    say({"jsonrpc": "2.0", "id": number, "result": result})


if HOW == "stays":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        time.sleep(60)  # what it began itself, and holds its pipes
if HOW == "chats":
    print("Welcome to the clerk!")
if HOW == "breaks":
    sys.exit("no register here")

for line in sys.stdin:
    call = json.loads(line)
    method, number, params = call.get("method"), call.get("id"), call.get("params", {})
    if method == "server/discover":
        reply(number, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
    elif method == "tools/list":
        reply(number, {"tools": [ASK]})
    elif method == "tools/call":
        text = params["arguments"]["question"]
        if text == "crash":
            print("out of paper", file=sys.stderr, flush=True)
            os._exit(3)
        if text == "wait":
            print("waits", file=sys.stderr, flush=True)
            continue
        if text == "strange id":
            reply(77, {})
            continue
        if text == "flood":
            for count in range(6000):
                progress = {"progressToken": number, "progress": count}
                say({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
        if text == "large":
            sys.stdout.write("x" * 40_000_000)
            sys.stdout.flush()
        if text == "ping":
            say({"jsonrpc": "2.0", "id": "p", "method": "ping"})
            text = sys.stdin.readline().strip()
        if text == "environment":
            text = json.dumps(sorted(os.environ))
        reply(number, {"content": [{"type": "text", "text": text}]})
    elif method == "notifications/cancelled":
        print(f"cancelled {params['requestId']}", file=sys.stderr, flush=True)

if HOW == "stays":
    time.sleep(60)
