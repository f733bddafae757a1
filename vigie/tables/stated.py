"""What a user states about a file, in words: from options, and back to options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from vigie.errors import InvalidDataError
from vigie.tables.options import CsvOptions, Mark, ReadOptions, TimeOptions

MEANINGS = {
    "time": "The column with the time. Twice: the date, and the time of day.",
    "timezone": "The zone of times without one, such as Europe/Paris.",
    "separator": "Between the cells of a CSV file; tab for a tab.",
    "encoding": "The encoding of a CSV file, such as cp1252.",
    "sheet": "The sheet of a workbook.",
    "long": "One value a row: the columns with the sensor and its value, such as tag:value.",
    "by": "The column that tells several machines apart.",
    "hold": "Fill empty cells with the last value, at most this old, such as 10min.",
}
"""Of the options that a command line and a request share word for word."""
MARKS: dict[str, Mark] = {"point": ".", "comma": ","}
UNITS_S = {"ms": 1e-3, "s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
LONGEST_HOLD_S = 3650 * 86_400.0


def read_options(
    *,
    time: Sequence[str] = (),
    day_first: bool | None = None,
    time_format: str | None = None,
    timezone: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
    long: str | None = None,
    by: str | None = None,
    hold: str | None = None,
) -> ReadOptions:
    """Return what the user states about a file.

    Parameters
    ----------
    decimal : {"point", "comma"}, optional
        The decimal mark.
    long : str, optional
        The columns with the sensor and its value, such as ``tag:value``.
    hold : str, optional
        A duration with its unit, such as ``10min``.
    time, day_first, time_format, timezone, separator, encoding, sheet, by
        See ``ReadOptions`` and what it consists of.

    Raises
    ------
    InvalidDataError
        If an option has no usable value.
    """
    if decimal is not None and decimal not in MARKS:
        raise InvalidDataError(
            f"{decimal!r} is no decimal mark.",
            field="--decimal",
            remedy="Use point or comma.",
        )
    if separator is not None and not is_separator(separator):
        raise InvalidDataError(
            f"{separator!r} is no separator.",
            field="--separator",
            remedy="Give one character, tab or space.",
        )
    if encoding is not None:
        require_encoding(encoding)
    if timezone is not None:
        from vigie.tables.local_times import zone_named

        # Here, too: a file without times would never ask for it.
        zone_named(timezone)
    return ReadOptions(
        csv=CsvOptions(separator, None if decimal is None else MARKS[decimal], encoding),
        sheet=sheet,
        time=tuple(time),
        times=TimeOptions(day_first, time_format, timezone),
        long=_pair(long),
        by=by,
        hold=_duration(hold),
    )


def require_encoding(encoding: str) -> None:
    """Check that Python knows an encoding.

    Raises
    ------
    InvalidDataError
        If it does not.
    """
    try:
        "a1,".encode(encoding).decode(encoding)
    except (LookupError, ValueError) as error:
        raise InvalidDataError(
            f"There is no encoding {encoding!r}.",
            field="--encoding",
            remedy="For example utf-8, cp1252 or utf-16.",
        ) from error


def is_separator(separator: str) -> bool:
    """Return whether this can stand between two cells."""
    if separator in ("tab", "space", "\\t", "\t"):
        return True
    return len(separator) == 1 and separator.isascii() and separator.isprintable()


def as_arguments(options: ReadOptions) -> list[str]:
    """Return options as words of a command line, which ``read_options`` would understand."""
    marks = {mark: word for word, mark in MARKS.items()}
    given: list[tuple[str, str | None]] = [
        *(("--time", name) for name in options.time),
        ("--time-format", options.times.time_format),
        ("--timezone", options.times.timezone),
        ("--separator", {"\t": "tab"}.get(options.csv.separator or "", options.csv.separator)),
        ("--decimal", options.csv.decimal and marks[options.csv.decimal]),
        ("--encoding", options.csv.encoding),
        ("--sheet", options.sheet),
        ("--long", options.long and ":".join(options.long)),
        ("--by", options.by),
        ("--hold", None if options.hold is None else duration(options.hold)),
    ]
    words = [word for name, value in given if value is not None for word in (name, value)]
    if options.times.day_first is not None:
        words.append("--day-first" if options.times.day_first else "--month-first")
    return words


def as_parameters(options: ReadOptions) -> list[tuple[str, str]]:
    """Return options as parameters of an address, which the service understands."""
    words = as_arguments(options)
    if options.times.day_first is not None:
        words = [*words[:-1], "--day-first", str(options.times.day_first).lower()]
    pairs = zip(words[::2], words[1::2], strict=True)
    return [(name.removeprefix("--").replace("-", "_"), value) for name, value in pairs]


def duration(length: timedelta) -> str:
    """Return a duration as ``--hold`` takes it, rounded up to a second from one second on."""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{-(-length // timedelta(milliseconds=1))}ms"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{int(-(-seconds // 1))}s"


def row_slice(rows: str | None) -> slice:
    """Return the slice for a range such as ``1:400``, which counts from 1 and includes both ends.

    Raises
    ------
    InvalidDataError
        If it is not a range of rows.
    """
    if rows is None:
        return slice(None)
    match = re.fullmatch(r"(\d*):(\d*)", rows)
    start, stop = (int(end) if end else None for end in match.groups()) if match else (0, 0)
    if start == 0 or (stop is not None and stop < (start or 1)):
        raise InvalidDataError(
            f"{rows!r} is not a range of rows.",
            field="--rows",
            remedy="Use for example 1:400 or 401:.",
        )
    return slice((start or 1) - 1, stop)


def _pair(long: str | None) -> tuple[str, str] | None:
    if long is None:
        return None
    tag, colon, value = long.partition(":")
    if not (tag and colon and value):
        raise InvalidDataError(
            f"{long!r} does not name two columns.",
            field="--long",
            remedy="Name the column of the sensor and that of its value, such as tag:value.",
        )
    return tag, value


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|sec|min|m|h|d)\s*", text)
    seconds = float(match[1]) * UNITS_S[match[2]] if match else 0.0
    if match is None or not seconds <= LONGEST_HOLD_S:
        raise InvalidDataError(
            f"{text!r} is no duration.",
            field="--hold",
            remedy="Write it with its unit, such as 90s, 10min, 2h or 1d.",
        )
    return timedelta(seconds=seconds)
