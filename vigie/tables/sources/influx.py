"""InfluxDB: InfluxQL for a database (?db=), Flux for an organisation (?org=)."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vigie.errors import InvalidDataError
from vigie.tables.sources.addresses import Address
from vigie.tables.sources.columns import ROWS_AT_A_TIME, batch_of, inferred
from vigie.tables.sources.queries import Request, rfc3339
from vigie.tables.sources.web import address_of, client, lines, refusal

if TYPE_CHECKING:
    import httpx
    import pyarrow as pa

ROWS_OF_A_CHUNK = 10_000
INFLUXQL = "--query 'SELECT rpm, temperature FROM pump WHERE time > now() - 7d'."
FLUX = "--query 'filter(fn: (r) => r._measurement == \"pump\")'."
PERIOD = "For the last seven days: --start 7d."
PIVOT = 'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
OF_FLUX = ("result", "table", "_start", "_stop", "_measurement")
"""Columns of Flux that say which table a row is of, and not what was measured."""
_ONE_SELECT = re.compile(r"\s*SELECT\b(?!.*\bINTO\b)[^;]*;?\s*", re.IGNORECASE | re.DOTALL)


def read(request: Request) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the answer, the column of times called ``time``.

    Raises
    ------
    InvalidDataError
        If the server cannot be reached, or refuses the query, or the address names neither a
        database nor an organisation.
    """
    address = request.address
    request = replace(request, address=_with_login(address))
    if "db" in address.parameters:
        return _influxql(request)
    if "org" in address.parameters:
        return _flux(request)
    raise InvalidDataError(
        "The address names no database.",
        field="SOURCE",
        remedy="For InfluxQL: influxdb+http://host:8086?db=plant. For Flux: "
        "influxdb+http://host:8086?org=works&bucket=plant.",
    )


def _with_login(address: Address) -> Address:
    """Return an address with the login that InfluxDB's own ways of giving one hold."""
    given = address.parameters
    username = address.username or given.get("u")
    password = address.password or given.get("p")
    token = address.token or os.environ.get("INFLUX_TOKEN")
    return replace(address, username=username, password=password, token=token)


def _influxql(request: Request) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an InfluxQL query, as the server sends them."""
    request.require_no_period("WHERE time > now() - 7d into the query")
    query = request.required_query(INFLUXQL)
    if not _ONE_SELECT.fullmatch(query):
        raise InvalidDataError(
            "The query is not one SELECT, or writes INTO something.",
            field="--query",
            remedy=f"Such as {INFLUXQL}",
        )
    address = request.address
    asked = {
        **{name: value for name, value in address.parameters.items() if name not in ("u", "p")},
        "q": query,
        "epoch": "ns",
        "chunked": "true",
        "chunk_size": str(ROWS_OF_A_CHUNK),
    }
    with (
        client(address, "Token") as http,
        http.stream("GET", address_of(address, "/query"), params=asked) as response,
    ):
        _require_success(address, response)
        yield from _batches_of_chunks(address, lines(response))


def _batches_of_chunks(address: Address, lines: Iterator[str]) -> Iterator[pa.RecordBatch]:
    """Yield the series of a chunked answer; the tags of GROUP BY become columns."""
    schema, n_rows = None, 0
    for series in _series(address, lines):
        names, columns = _with_tags(series)
        if schema is None:
            schema = _schema_of_influxql(names, columns)
        elif schema.names != names:
            raise InvalidDataError(
                "The answer holds measurements with different fields.",
                field="--query",
                remedy="Select FROM one measurement.",
            )
        yield batch_of(columns, schema, n_rows)
        n_rows += len(columns[0])
    if schema is None:
        raise InvalidDataError(
            "The query selects no rows.",
            field="--query",
            remedy="Correct the names of measurement and fields, or the period.",
        )


def _series(address: Address, lines: Iterator[str]) -> Iterator[Mapping[str, Any]]:
    """Yield each series of each chunk, which is one line of JSON.

    Raises
    ------
    InvalidDataError
        If a chunk says that the query failed, or is not one of InfluxDB's.
    """
    for line in filter(str.strip, lines):
        try:
            chunk = json.loads(line)
            results = [chunk, *chunk.get("results", ())]
        except (ValueError, AttributeError):
            raise _no_influxdb(address) from None
        for result in results:
            if "error" in result:
                raise refusal(address, 400, address.cleaned(result["error"]).rstrip("."))
            yield from result.get("series", ())


def _with_tags(series: Mapping[str, Any]) -> tuple[list[str], list[Sequence[Any]]]:
    """Return names and values of the columns of a series, the tags that it is grouped by first."""
    tags = series.get("tags", {})
    rows = series.get("values", ())
    columns = list(zip(*rows, strict=True)) or [()] * len(series["columns"])
    constant: list[Sequence[Any]] = [[value] * len(rows) for value in tags.values()]
    time, *fields = columns
    first, *others = series["columns"]
    return [first, *tags, *others], [time, *constant, *fields]


def _schema_of_influxql(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> pa.Schema:
    import pyarrow as pa

    kinds = [
        pa.timestamp("ns", tz="UTC") if name == "time" else inferred(values)
        for name, values in zip(names, columns, strict=True)
    ]
    # JSON writes a float without a fraction as an integer, however large.
    kinds = [pa.float64() if pa.types.is_integer(k) and k != pa.int8() else k for k in kinds]
    return pa.schema(list(zip(names, kinds, strict=True)))


def _flux(request: Request) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Flux query, as the server sends them."""
    address = request.address
    asked = {
        "query": _flux_query(request),
        "type": "flux",
        "dialect": {"annotations": ["datatype", "default"], "header": True},
    }
    with (
        client(address, "Token") as http,
        http.stream(
            "POST",
            address_of(address, "/api/v2/query"),
            params={"org": address.parameters["org"]},
            json=asked,
            headers={"Accept": "application/csv"},
        ) as response,
    ):
        _require_success(address, response)
        yield from _batches_of_csv(address, lines(response))


def _flux_query(request: Request) -> str:
    """Return a query that names its bucket, or complete one that does not."""
    query = (request.query or "").strip()
    if re.search(r"\bfrom\s*\(", query):
        request.require_no_period("range(start: -7d) into the query")
        return query
    bucket = request.address.parameters.get("bucket")
    if bucket is None:
        raise InvalidDataError(
            "The query names no bucket.",
            field="--query",
            remedy="Write from(bucket: …) into it, or ?bucket= into the address.",
        )
    start, end = request.period_ms(PERIOD)
    steps = [f"from(bucket: {json.dumps(bucket, ensure_ascii=False)})"]
    steps.append(f"range(start: {rfc3339(start)}, stop: {rfc3339(end)})")
    steps += [query.removeprefix("|>").strip()] if query else []
    if step := request.step_ms():
        steps.append(f"aggregateWindow(every: {step}ms, fn: mean, createEmpty: false)")
    return " |> ".join([*steps, PIVOT])


def _batches_of_csv(address: Address, lines: Iterator[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of annotated CSV: tables, each with the types of its columns above it."""
    schema, n_rows = None, 0
    for names, kinds, rows in _tables(address, lines):
        kept = [i for i, name in enumerate(names) if name and name not in OF_FLUX]
        found = _schema_of_flux([names[i] for i in kept], [kinds[i] for i in kept])
        if schema is not None and schema != found:
            raise InvalidDataError(
                f"The answer holds tables with different columns: {', '.join(schema.names)} in "
                f"one, and {', '.join(found.names)} in another.",
                field="--query",
                remedy="Filter for one measurement, and end the query with group().",
            )
        schema = found
        columns = [[_value(row[i], kinds[i]) for row in rows] for i in kept]
        yield batch_of(columns, schema, n_rows)
        n_rows += len(rows)
    if schema is None:
        raise InvalidDataError(
            "The query selects no rows.",
            field="--query",
            remedy="Correct the filter, or the period by --start and --end.",
        )


def _tables(
    address: Address, lines: Iterator[str]
) -> Iterator[tuple[list[str], list[str], list[list[str]]]]:
    """Yield names, types and some rows of each table, the rows with their defaults.

    Raises
    ------
    InvalidDataError
        If the answer reports an error, or is not annotated CSV.
    """
    kinds: list[str] = []
    defaults: list[str] = []
    names: list[str] = []
    rows: list[list[str]] = []
    for cells in csv.reader(f"{line}\n" for line in lines):
        is_end = not cells or cells[0].startswith("#")
        if rows and (is_end or len(rows) == ROWS_AT_A_TIME):
            yield names, kinds, rows
            rows = []
        if is_end:
            names = []
            kinds = cells if cells and cells[0] == "#datatype" else kinds
            defaults = cells if cells and cells[0] == "#default" else defaults
        elif not names:
            names = cells
            _require_values(address, names, kinds)
        elif names[1:2] == ["error"]:
            raise refusal(address, 400, address.cleaned(cells[1]).rstrip("."))
        else:
            rows.append([cell or default for cell, default in zip(cells, defaults, strict=False)])
    if rows:
        yield names, kinds, rows


def _require_values(address: Address, names: Sequence[str], kinds: Sequence[str]) -> None:
    """Check that a table has types, and a column for each field."""
    if len(kinds) != len(names):
        raise _no_influxdb(address)
    if {"_field", "_value"} <= set(names):
        raise InvalidDataError(
            "The answer has all fields in one column.",
            field="--query",
            remedy=f"End the query with |> {PIVOT}.",
        )


def _schema_of_flux(names: Sequence[str], kinds: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    types = {
        "double": pa.float64(),
        "long": pa.int64(),
        "unsignedLong": pa.uint64(),
        "boolean": pa.int8(),
    }
    fields = []
    for name, kind in zip(names, kinds, strict=True):
        is_time = kind.startswith("dateTime")
        usual = types.get(kind, pa.string())
        type_ = pa.timestamp("ns", tz="UTC") if is_time else usual
        fields.append((name if name != "_time" else "time", type_))
    return pa.schema(fields)


def _value(text: str, kind: str) -> Any:
    """Return the value of a cell of annotated CSV; None if it is empty."""
    if not text:
        return None
    if kind == "double":
        return float(text)
    if kind == "boolean":
        return text == "true"
    if kind.startswith("dateTime"):
        import numpy as np

        return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))
    return text


def _require_success(address: Address, response: httpx.Response) -> None:
    """Check the status of an answer.

    Raises
    ------
    InvalidDataError
        If it is not 2xx, with the server's reason.
    """
    if response.is_success:
        return
    response.read()
    try:
        answer = response.json()
        said = str(answer.get("message") or answer.get("error") or "")
    except (ValueError, AttributeError):
        said = ""
    raise refusal(address, response.status_code, address.cleaned(said).rstrip("."))


def _no_influxdb(address: Address) -> InvalidDataError:
    return InvalidDataError(
        f"{address.shown} is no InfluxDB: its answer is not of that API.",
        field="SOURCE",
        remedy="Correct the address; a path before /query belongs to it.",
    )
