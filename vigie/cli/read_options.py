"""The options of all commands that read a table."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vigie.errors import InvalidDataError
from vigie.tables.options import ReadOptions
from vigie.tables.stated import MEANINGS, read_options


class Decimal(StrEnum):
    """Decimal marks."""

    POINT = "point"
    COMMA = "comma"


PANEL = "How the file is read (decided from the file unless stated)"


SOURCES = "Databases and time series servers (docs/how-to/databases.md)"
Source = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="CSV (packed or not), Excel or Parquet, in time order; or the address of a database, "
        "a time series server, or a file elsewhere.",
    ),
]


def _source_option(*names: str, help: str) -> Any:  # noqa: A002 (typer's word)
    return typer.Option(*names, help=help, rich_help_panel=SOURCES)


def _option(*names: str, help: str) -> Any:  # noqa: A002 (typer's word)
    return typer.Option(*names, help=help, rich_help_panel=PANEL)


def _read_options(
    time: Annotated[
        list[str] | None,
        _option("--time", help=MEANINGS["time"]),
    ] = None,
    day_first: Annotated[
        bool | None,
        _option("--day-first/--month-first", help="Whether 01/02/2024 is in February or January."),
    ] = None,
    time_format: Annotated[
        str | None,
        _option("--time-format", help="How times are written, such as '%d.%m.%y %H:%M'."),
    ] = None,
    timezone: Annotated[
        str | None,
        _option("--timezone", help=MEANINGS["timezone"]),
    ] = None,
    separator: Annotated[str | None, _option("--separator", help=MEANINGS["separator"])] = None,
    decimal: Annotated[
        Decimal | None, _option("--decimal", help="The decimal mark, a point or a comma.")
    ] = None,
    encoding: Annotated[str | None, _option("--encoding", help=MEANINGS["encoding"])] = None,
    sheet: Annotated[str | None, _option("--sheet", help=MEANINGS["sheet"])] = None,
    long: Annotated[
        str | None,
        _option(
            "--long",
            help=MEANINGS["long"],
        ),
    ] = None,
    by: Annotated[str | None, _option("--by", help=MEANINGS["by"])] = None,
    hold: Annotated[
        str | None,
        _option("--hold", help=MEANINGS["hold"]),
    ] = None,
) -> ReadOptions:
    """Return what the user states about a file.

    Raises
    ------
    InvalidDataError
        If an option has no usable value.
    """
    return read_options(
        time=time or (),
        day_first=day_first,
        time_format=time_format,
        timezone=timezone,
        separator=separator,
        decimal=decimal,
        encoding=encoding,
        sheet=sheet,
        long=long,
        by=by,
        hold=hold,
    )


def _asked(
    query: Annotated[
        str | None, _source_option("--query", help="What to ask: SQL, PromQL, InfluxQL or Flux.")
    ] = None,
    start: Annotated[
        str | None,
        _source_option("--start", help="The first time, or how long ago, such as 7d."),
    ] = None,
    end: Annotated[
        str | None, _source_option("--end", help="The last time; by default now.")
    ] = None,
    step: Annotated[
        str | None, _source_option("--step", help="The time between two rows, such as 30s.")
    ] = None,
) -> dict[str, str | None]:
    """Return what a database or a time series server is asked."""
    return {"query": query, "start": start, "end": end, "step": step}


def reads_a_table(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options above in place of its parameter ``reading``.

    Its parameter ``file`` may be the address of a database, a server or a file elsewhere; the
    command gets the path of a copy. Its parameter ``named``, if it has one, gets the words
    that name the file on a command line, without the password of an address.
    """
    own = inspect.signature(command, eval_str=True)
    reading = inspect.signature(_read_options, eval_str=True).parameters
    asking = inspect.signature(_asked, eval_str=True).parameters

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        stated = _read_options(**{name: values.pop(name) for name in reading})
        asked = _asked(**{name: values.pop(name) for name in asking})
        source = values.pop("file")
        if "named" in own.parameters:
            values["named"] = _named(source, asked)
        with _local(source, asked) as path:
            command(file=path, **values, reading=stated)

    parameters = [
        p.replace(annotation=Source if p.name == "file" else p.annotation)
        for p in own.parameters.values()
        if p.name not in ("reading", "named")
    ]
    parameters = [*parameters, *reading.values(), *asking.values()]
    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in parameters]
    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options


def _local(source: str, asked: dict[str, str | None]) -> AbstractContextManager[Path]:
    """Return the path of a local file, or a copy of what an address names."""
    from vigie.tables.sources import is_source, local_copy

    if is_source(source):
        return local_copy(source, **asked)
    if options := [f"--{name}" for name, value in asked.items() if value is not None]:
        raise InvalidDataError(
            f"{source} is a file, which takes no query.",
            field=options[0],
            remedy="Leave the option out, or give the address of a database.",
        )
    return nullcontext(Path(source))


def _named(source: str, asked: dict[str, str | None]) -> list[str]:
    """Return a file's path as written; or an address without its password, and its options."""
    from vigie.tables.sources import is_source, shown

    if not is_source(source):
        return [f"./{source}" if source.startswith("-") else source]
    options = [(f"--{name}", value) for name, value in asked.items() if value is not None]
    return [shown(source), *(word for option in options for word in option)]
