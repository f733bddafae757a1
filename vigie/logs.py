"""Log lines with time and level, as text or as JSON, and log files of bounded size.

No line has the secret of an API key, whatever wrote it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import cached_property
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal

from vigie.keys import hidden
from vigie.printable import printable

LogFormat = Literal["text", "json"]

MOST_BYTES, OLDER_FILES = 5_000_000, 2
"""Size at which a log file is renamed, and how many renamed ones are kept."""
TIMED = re.compile(
    r"(?P<year>\d{4})[-/](?P<month>\d\d)[-/](?P<day>\d\d)[ T](?P<time>\S+) "
    r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL):? +"
    r"(?:(?P<logger>[\w.]+): )?(?P<message>.*)"
)
"""The beginning of a line that has a time and a level, of Vigie or of MLflow."""
REQUEST = "request_id"
FIELDS = (REQUEST, "job_id", "asset_id", "model", "version")
ACCESS = ("method", "path", "status", "duration_s")
"""Of the line for a request."""
_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=MappingProxyType({}))
_of_process: dict[str, str] = {}


def begin(request_id: str) -> None:
    """Name a request in all lines of this task, and of what it starts."""
    _fields.set({REQUEST: request_id})


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Name something in all lines of a block, by the names in ``FIELDS``."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def name_process(**fields: str) -> None:
    """Name something in all lines of this process, by the names in ``FIELDS``."""
    _of_process.update(fields)


def request_id() -> str | None:
    """Return the id of the request that is being answered; None outside of requests."""
    return _fields.get().get(REQUEST)


class TextFormatter(logging.Formatter):
    """One line for each record: time, level, logger, message; a traceback follows, indented.

    The id of a request stands before the message.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _time(record.created)

    def formatMessage(self, record: logging.LogRecord) -> str:
        # A name in it could else write lines of its own, or to the terminal.
        record.message = printable(record.message.rstrip())
        if (of := request_id()) is not None:
            record.message = f"[{of}] {record.message}"
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        text = hidden(super().format(record))
        return printable(text, of_lines=True).replace("\n", "\n    ")


class MessageFormatter(logging.Formatter):
    """The message alone, for people at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return hidden(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object for each record: time, level, logger, message, and exception if any.

    What it is about follows as fields of their own; see ``FIELDS``.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        known = _of_process | dict(_fields.get())
        for name in (*FIELDS, *ACCESS):
            if (value := getattr(record, name, known.get(name))) is not None:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII, since a name may hold what UTF-8 cannot encode, or a terminal obeys.
        return hidden(json.dumps(line))


def formatter(log_format: LogFormat) -> logging.Formatter:
    """Return the formatter of a setting."""
    return JsonFormatter() if log_format == "json" else TextFormatter()


class LateHandler(logging.Handler):
    """A handler that is made for the first record, so that a command without any need not wait.

    Parameters
    ----------
    make : callable
        Returns the handler.
    """

    def __init__(self, make: Callable[[], logging.Handler]):
        super().__init__()
        self._make = make

    def emit(self, record: logging.LogRecord) -> None:
        self.made.handle(record)

    @cached_property
    def made(self) -> logging.Handler:
        """The handler."""
        return self._make()


def configure(handler: logging.Handler, *, verbose: bool = False) -> None:
    """Send what Vigie and its server log, and warnings of libraries, to a handler."""
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("vigie").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.INFO)


def format_in_use() -> LogFormat:
    """Return how this process logs, so that its children do the same."""
    handlers = (
        handler.made if isinstance(handler, LateHandler) else handler
        for handler in logging.getLogger().handlers
    )
    is_json = any(isinstance(handler.formatter, JsonFormatter) for handler in handlers)
    return "json" if is_json else "text"


def to_standard_error(log_format: LogFormat) -> logging.Handler:
    """Return a handler that writes lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    return handler


def keep(lines: IO[bytes], path: Path, name: str, log_format: LogFormat) -> None:
    """Write the output of a process to a log file of bounded size, until the output ends.

    Parameters
    ----------
    lines : binary file
        The output.
    path : Path
        The file. At ``MOST_BYTES`` it becomes ``path.1``, which becomes ``path.2`` and so on.
    name : str
        The logger of lines that name none.
    log_format : {'text', 'json'}
        Lines without time and level, or in another format, are completed.
    """
    file = RotatingFileHandler(
        path, maxBytes=MOST_BYTES, backupCount=OLDER_FILES, encoding="utf-8", delay=True
    )
    with lines, closing(file):
        for raw in lines:
            line = printable(hidden(raw.decode("utf-8", "replace").rstrip()), of_lines=True)
            text = completed(line, name, log_format)
            if text:
                file.handle(logging.makeLogRecord({"msg": text}))


def completed(line: str, name: str, log_format: LogFormat) -> str:
    """Return a line of output with its time and level, and in the format, where it lacks them."""
    if not line or (log_format == "json" and line.startswith("{")):
        return line
    timed = TIMED.match(line)
    if log_format == "text":
        is_complete = timed or line[0].isspace()
        return line if is_complete else f"{_time()} INFO {name}: {line}"
    fields = {"time": _time(), "level": "INFO", "logger": name, "message": line}
    if timed:
        fields |= {
            "time": "{year}-{month}-{day}T{time}".format(**timed.groupdict()),
            "level": timed["level"],
            "logger": timed["logger"] or name,
            "message": timed["message"],
        }
    return json.dumps(fields, ensure_ascii=False)


def _time(seconds: float | None = None) -> str:
    """Return a Unix time, by default now, in the local zone."""
    at = datetime.now() if seconds is None else datetime.fromtimestamp(seconds)
    return at.astimezone().isoformat(timespec="milliseconds")
