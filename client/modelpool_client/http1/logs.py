"""How servers write log lines: as text, or each as a JSON object. A line that is about a request
names it, by the id that its client and its worker know."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, Protocol, TextIO, TypeAlias, cast

from .exchange import current
from .request_ids import id_of

LogFormat: TypeAlias = Literal["text", "json"]


def request_id() -> str:
    """Of the request that is at work here; empty where none is."""
    exchange = current()
    return "" if exchange is None else id_of(exchange.request).decode("latin-1")


class Output(Protocol):
    """Where a log goes."""

    def write(self, text: str, /) -> object: ...


class TextFormatter(logging.Formatter):
    """As ``logging`` writes lines, the request's id behind them."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        line, about = super().formatMessage(record), request_id()
        return f"{line} [request {about}]" if about else line


class JsonFormatter(logging.Formatter):
    """An object a line: ``time`` (UTC), ``level``, ``logger``, ``message``; ``request_id`` and
    ``exception`` where there is one. ``about`` goes with each."""

    def __init__(self, about: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._about = dict(about or {})

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        row = self.row(record.levelname, record.name, record.getMessage(), record.created)
        if about := request_id():
            row["request_id"] = about
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row)

    def row(self, level: str, logger: str, message: str, at: float) -> dict[str, str]:
        """A line's values; ``at`` in seconds since 1970."""
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        said = {"time": when, "level": level.lower(), "logger": logger, "message": message}
        return said | self._about


class EngineLines:
    """Lines that an engine has written, as text, on their way to a log of objects."""

    def __init__(self, output: Output, about: Mapping[str, str]) -> None:
        self._output = output
        self._formatter = JsonFormatter(about)

    def write(self, text: str) -> None:
        """Append a line."""
        row = self._formatter.row("INFO", "engine", text.rstrip("\n"), time.time())
        self._output.write(json.dumps(row) + "\n")


def set_up(
    output: Output,
    level: int | str,
    how: LogFormat,
    text: str,
    about: Mapping[str, str] | None = None,
) -> None:
    """Have this process write its log to ``output``, lines of text in the format ``text``."""
    handler = logging.StreamHandler(cast("TextIO", output))
    handler.setFormatter(JsonFormatter(about) if how == "json" else TextFormatter(text))
    logging.basicConfig(level=level, handlers=[handler])
