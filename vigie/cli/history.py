"""``vigie history``: what was measured and said, read back."""

from __future__ import annotations

import sys
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from vigie.cli.command import Command, Group
from vigie.cli.environment import read_settings
from vigie.cli.terminal import new_sheet, out
from vigie.errors import InvalidDataError, VigieError
from vigie.printable import printable

if TYPE_CHECKING:
    from vigie.models.readings import ReadingPage

history = typer.Typer(cls=Group, help="The history: read assessments back.", no_args_is_help=True)


class Form(StrEnum):
    """The form of what is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@history.command("list", cls=Command)
def list_readings(
    asset: Annotated[
        str | None, typer.Option(help="The asset; site/line/ for all below it.")
    ] = None,
    sensor_id: Annotated[str | None, typer.Option(help="The group of sensors.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Not before: 2026-01-05T08:00:00Z, or how long ago: 30d.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Not after.")] = None,
    anomalies: Annotated[bool, typer.Option("--anomalies", help="Only anomalies.")] = False,
    criticality: Annotated[
        list[str] | None, typer.Option(help="Only low, medium, high or critical. Repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100,
    points: Annotated[
        int | None,
        typer.Option(help="About so many of the whole time, with all extremes, for a picture."),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, with all values.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all values.")] = False,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet file.")] = None,
    server: Annotated[
        str | None,
        typer.Option(help="Ask this service, such as http://localhost:8084, not the database."),
    ] = None,
) -> None:
    """Show stored readings and what was said of them, the newest first."""
    if sum((as_csv, as_json, parquet is not None)) > 1:
        raise InvalidDataError(
            "Several forms are asked for.", field="--csv", remedy="Give one of them."
        )
    asked = {
        "asset_id": asset,
        "sensor_id": sensor_id,
        "start_date": start,
        "end_date": end,
        "is_anomaly": True if anomalies else None,
        "criticality": criticality or [],
        **({"points": points} if points is not None else {"limit": limit}),
    }
    page = _stored(asked) if server is None else _of_service(server, asked)
    if parquet is not None:
        from vigie.history.export import parquet_of

        parquet.write_bytes(parquet_of(page.readings))
        out.print(f"{len(page.readings)} readings are in {parquet}.", markup=False, soft_wrap=True)
    elif as_csv:
        from vigie.history.export import csv_of

        sys.stdout.buffer.write(csv_of(page.readings, read_settings().csv_for_people))
    elif as_json:
        out.print_json(page.model_dump_json(), highlight=False)
    else:
        _print(page)


def _stored(asked: dict[str, Any]) -> ReadingPage:
    """Return what the database has."""
    from vigie.history.address import history_url
    from vigie.history.store import History, file_of
    from vigie.models.readings import search_of
    from vigie.services.reading_search import found_readings

    url = history_url(read_settings())
    if (file := file_of(url)) is not None and not file.exists():
        raise InvalidDataError(
            f"There is no history at {file}.",
            field="VIGIE_HISTORY_URL",
            remedy="Set it to that of the service, or ask the service: --server http://HOST:8084.",
        )
    search = search_of(asked | {"format": "csv"})
    store = History(url)
    try:
        return found_readings(store, search)
    finally:
        store.close()


def _of_service(server: str, asked: dict[str, Any]) -> ReadingPage:
    """Return what a service answers."""
    from vigie.cli.train_remote import as_of_the_command
    from vigie.client import Client
    from vigie.keys import Scope
    from vigie.models.readings import MOST_IN_JSON, ReadingPage, search_of

    search_of(asked | {"format": "csv"})
    try:
        with Client(server, verify=read_settings().tls_cert or True) as client:
            if "points" in asked:
                return client.list_readings(**asked)
            limit = asked.pop("limit")
            readings = client.readings(**asked, limit=min(limit, MOST_IN_JSON))
            return ReadingPage(readings=list(islice(readings, limit)), next=None)
    except VigieError as error:
        raise as_of_the_command(error, Scope.READ) from error


def _print(page: ReadingPage) -> None:
    """Print the verdicts; the values are in the other forms."""
    from rich import box

    if not page.readings:
        out.print("The history has no such readings.")
        return
    sheet = new_sheet()
    sheet.box, sheet.show_edge, sheet.padding = box.SIMPLE_HEAD, False, (0, 1, 0, 0)
    for column in ("time (UTC)", "asset", "score", "criticality", "state", "by"):
        sheet.add_column(column, no_wrap=column == "time (UTC)", overflow="fold")
    for reading in page.readings:
        names = (reading.asset_id, reading.sensor_id)
        sheet.add_row(
            _second(reading.timestamp),
            escape(printable(" ".join(name for name in names if name))),
            "–" if reading.final_score is None else f"{reading.final_score:.6f}",
            str(reading.criticality or ("anomaly" if reading.is_anomaly else "–")),
            "–" if reading.state is None else reading.state.words,
            escape(
                ", ".join(
                    f"{name} v{version}" if version else name
                    for name, version in reading.models.items()
                )
            ),
        )
    out.print(sheet)


def _second(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"
