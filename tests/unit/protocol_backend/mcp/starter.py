"""An MCP server by the standard library alone that is slow to start, or never starts; its arguments say how.

`starter.py GATE HOW`: it reads nothing until the file GATE exists.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

GATE, HOW = Path(sys.argv[1]), sys.argv[2]
TOOL = {"name": "ask", "inputSchema": {"type": "object", "properties": {"question": {"type": "string"}}}}
VERSIONS = {"old": "2023-01-01", "new": "2099-01-01", "none": None}


def say(number: object, **what: object) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": number, **what}) + "\n")
    sys.stdout.flush()


if HOW == "babbles":
    print("Welcome to the \x1b[31mstarter", flush=True)
    print("opening the \x1b[31mbooks of", *sys.argv[3:], file=sys.stderr, flush=True)
deadline = time.monotonic() + 60
while not GATE.exists() and time.monotonic() < deadline:
    time.sleep(0.01)
if HOW == "breaks":
    sys.exit(f"no such key: {' '.join(sys.argv[3:])}")
if HOW == "babbles":
    time.sleep(60)

for line in sys.stdin:
    call = json.loads(line)
    method, number = call["method"], call.get("id")
    if method == "server/discover" and HOW == "modern":
        say(number, result={"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
    elif method == "initialize" and HOW != "modern":
        version = VERSIONS.get(HOW, "2025-06-18")
        say(number, result={"capabilities": {}, **({"protocolVersion": version} if version else {})})
    elif method == "tools/list":
        say(number, result={"tools": [TOOL]})
    elif method == "ping":
        say(number, result={})
    elif method == "tools/call":
        text = call["params"]["arguments"]["question"]
        if text == "crash":
            sys.exit("out of paper")
        say(number, result={"content": [{"type": "text", "text": text}]})
    elif number is not None:
        say(number, error={"code": -32601, "message": "unknown"})
