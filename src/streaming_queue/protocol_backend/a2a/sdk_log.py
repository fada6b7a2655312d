"""What the SDK logs of a stranger's request: kept short, and harmless to a terminal."""

from __future__ import annotations

import logging
import traceback

from streaming_queue.telemetry.text import one_line

MOST_CHARACTERS = 500


class Shortened(logging.Filter):
    """Cuts a record's message, and the text of its exception, which may list all that a stranger sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, shortened."""
        record.msg, record.args = one_line(record.getMessage(), MOST_CHARACTERS), ()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            text = str(error)
            told = one_line(text, MOST_CHARACTERS)
            if told != text:
                record.msg = f"{record.msg}: {type(error).__name__}: {told}"
                record.exc_info, record.exc_text = None, "".join(traceback.format_tb(error.__traceback__)).rstrip()
        return True


SHORTENED = Shortened()


def shorten() -> None:
    """Have all loggers of the SDK that there are by now say less; any number of times."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("a2a.") and isinstance(logger, logging.Logger):
            logger.addFilter(SHORTENED)
