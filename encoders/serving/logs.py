"""The server's log: one JSON object a line. Of a call it has who, what, how many and how long, never the content."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, TextIO

from encoders import request, tracing

__all__ = ["JsonLines", "json_log"]

LOGGER = "encoders"


class JsonLines(logging.Formatter):
    """A record as one line of JSON, with the ids of its request and of its trace, where it has any.

    The dict under `extra={"fields": …}` becomes members of its own.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        ids = {"request_id": request.current(), "trace_id": tracing.trace_id()}
        line.update({name: id for name, id in ids.items() if id})
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


@contextmanager
def json_log(stream: TextIO | None = None) -> Iterator[None]:
    """Log as JSON lines, by default on stderr, and as it was before afterwards."""
    logger = logging.getLogger(LOGGER)
    before = logger.handlers[:], logger.level, logger.propagate
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
