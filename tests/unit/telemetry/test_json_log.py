from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from streaming_queue.telemetry.json_log import JsonLog, JsonLogHandler


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_everything_said_is_one_record_a_line():
    stream = io.StringIO()
    log = JsonLog(stderr=stream)
    log.info("two\nlines \x1b[31m")
    log.error("bad")
    log.render_summary({"answered": 3})
    log.close()
    info, error, summary = records(stream)
    assert (info["level"], info["message"]) == ("info", "two\nlines \x1b[31m")
    assert error["level"] == "error"
    assert summary["summary"] == {"answered": 3}
    assert info["time"].endswith("+00:00")


def test_credentials_in_addresses_are_hidden():
    stream = io.StringIO()
    JsonLog(stderr=stream).warning("http://u:s3cret@h/?token=s3cret is slow")
    handler = JsonLogHandler(stream)
    try:
        raise ValueError("http://u:s3cret@h")
    except ValueError as error:
        handler.emit(logging.makeLogRecord({"msg": "wss://u:s3cret@h", "exc_info": (ValueError, error, None)}))
    assert len(records(stream)) == 2
    assert "s3cret" not in stream.getvalue()


def test_what_libraries_log_has_the_same_form(caplog: pytest.LogCaptureFixture):
    stream = io.StringIO()
    logger = logging.getLogger("some.library")
    handler = JsonLogHandler(stream)
    logger.addHandler(handler)
    try:
        try:
            raise ValueError("inner")
        except ValueError:
            logger.exception("it %s", "failed")
        logger.info("not worth it")
    finally:
        logger.removeHandler(handler)
    (record,) = records(stream)
    assert (record["level"], record["logger"], record["message"]) == ("error", "some.library", "it failed")
    assert "ValueError: inner" in record["exception"]


def test_a_record_is_bounded_and_has_hostile_characters_as_json_escapes():
    stream = io.StringIO()
    handler = JsonLogHandler(stream)
    handler.handle(logging.LogRecord("a", logging.WARNING, "a", 1, "\x9b\u202e%s", ("x" * 1_500_000,), None))
    assert r"\u009b\u202ex" in stream.getvalue()
    (record,) = records(stream)
    assert record["message"].startswith("\x9b\u202exxx")
    assert record["message"].endswith("x… (1,498,002 characters more)")
