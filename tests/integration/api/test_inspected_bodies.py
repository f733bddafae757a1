"""A file in the body of a request is inspected, whatever it is; none is a fault of the service."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from vigie.cli import app as commands
from vigie.config import Settings
from vigie.main import create_app

URL = "/api/v1/anomalies/inspect"
N = 200
FRAME = pd.DataFrame(
    {
        "time": pd.date_range("2026-01-05", periods=N, freq="1min").astype(str),
        "temp [°C]": np.random.default_rng(1).normal(60.0, 1.0, N).round(2),
        "label": (np.arange(N) >= 150).astype(int),
    }
)
CSV = FRAME.to_csv(index=False).encode()
PARQUET_TYPE = "application/vnd.apache.parquet"
XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
OPEN = "application/octet-stream"


def sent(
    body: bytes,
    content_type: str = "text/csv",
    max_bytes: int = 1 << 20,
    headers: dict[str, str] | None = None,
    **query: Any,
) -> httpx.Response:
    settings = Settings(mlflow_enabled=False, history_enabled=False, max_body_bytes=max_bytes)
    transport = httpx.ASGITransport(create_app(settings))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            sent_headers = {"Content-Type": content_type, **(headers or {})}
            return await client.post(URL, content=body, headers=sent_headers, params=query)

    return asyncio.run(ask())


def refused(response: httpx.Response, status: int = 422) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["remedy"]
    assert "/tmp" not in response.text
    assert "Traceback" not in response.text
    return problem


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name in names:
            packed.writestr(name, CSV)
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    FRAME.to_parquet(buffer)
    return buffer.getvalue()


def workbook() -> bytes:
    buffer = io.BytesIO()
    FRAME.to_excel(buffer, index=False, engine="xlsxwriter")
    return buffer.getvalue()


def test_the_answer_is_what_the_command_says_of_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "pump.csv"
    path.write_bytes(CSV)
    printed = CliRunner().invoke(commands, ["inspect", str(path), "--format", "json"]).output
    report = sent(CSV, filename="pump.csv").json()
    assert report == json.loads(printed.replace(str(path), "pump.csv"))
    assert report["commands"][0] == ["vigie", "train", "pump.csv", "--rows", "1:150", "--promote"]


@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        (CSV, OPEN, "CSV"),
        (CSV.decode().encode("utf-16"), "text/csv", "CSV"),
        (gzip.compress(CSV), OPEN, "CSV"),
        (archive("a.csv"), OPEN, "CSV"),
        (parquet(), PARQUET_TYPE, "Parquet"),
        (parquet(), OPEN, "Parquet"),
        (workbook(), XLSX_TYPE, "workbook"),
        (workbook(), OPEN, "workbook"),
    ],
)
def test_every_kind_of_file_is_understood_alike(body: bytes, content_type: str, kind: str) -> None:
    report = sent(body, content_type).json()
    assert report["origin"]["kind"] == kind
    assert report["n_rows"] == N
    assert {c["name"]: c["kind"] for c in report["columns"]} == {
        "time": "clock",
        "temp [°C]": "sensor",
        "label": "label",
    }


def test_options_are_parameters_of_the_same_names() -> None:
    text = FRAME.to_csv(index=False, sep="|", decimal=",").encode("cp1252")
    query = {"separator": "|", "decimal": "comma", "encoding": "cp1252", "timezone": "Europe/Paris"}
    report = sent(text, **query, filename="a.csv").json()
    assert report["time"]["begin"] == "2026-01-04T23:00:00Z"
    assert "--timezone" in report["commands"][0]


def test_one_row_is_a_table_too() -> None:
    assert sent(b"a,b\n1,2\n").json()["n_rows"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"<html><body>404</body></html>",
        archive("a.csv", "b.csv"),
        os.urandom(3000),
        b"\0" * 3000,
        parquet()[:400],
        workbook()[:700],
        gzip.compress(CSV)[:200],
        b'{"a": [1, 2]}',
    ],
    ids=["empty", "blank", "html", "two", "random", "nul", "parquet", "xlsx", "gzip", "json"],
)
def test_what_is_no_table_is_refused_with_a_remedy_and_leaves_nothing(
    body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    problem = refused(sent(body, OPEN))
    assert problem["field"] == "body"
    assert list(tmp_path.glob("vigie-inspect-*")) == []


def test_a_file_that_unpacks_to_gigabytes_is_refused_before_it_does() -> None:
    bomb = gzip.compress(bytes(300 << 20), compresslevel=1)
    assert "too large" in refused(sent(bomb, OPEN, max_bytes=8 << 20))["detail"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"seperator": ";"}, "query"),
        ({"decimal": "dot"}, "decimal"),
        ({"day_first": "maybe"}, "day_first"),
        ({"separator": "ab"}, "separator"),
        ({"encoding": "base64"}, "encoding"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"time_format": "%Y%"}, "time_format"),
        ({"time": "clock"}, "time"),
        ({"by": ["label", "time"]}, "by"),
        ({"hold": "long"}, "hold"),
        ({"long": "tag"}, "long"),
    ],
)
def test_a_wrong_option_is_named_as_the_parameter_it_is(query: dict[str, Any], field: str) -> None:
    problem = refused(sent(CSV, **query)) if field != "by" else sent(CSV, **query).json()
    assert problem["field"] == field
    assert "--" not in problem["detail"] + problem.get("remedy", "")


def test_only_a_file_is_taken_and_no_more_than_a_body_may_have() -> None:
    problem = refused(sent(b"{}", "application/json"), 415)
    assert "text/csv" in problem["remedy"]
    refused(sent(CSV, headers={"Content-Encoding": "gzip"}), 415)
    refused(sent(CSV, max_bytes=100), 413)


def test_a_name_or_a_body_that_is_an_address_is_only_a_name_and_a_body() -> None:
    # Nothing listens there; had it been asked, it would have been refused.
    address = "http://127.0.0.1:1/table.csv"
    assert sent(CSV, filename=address).json()["name"] == "table.csv"
    names_alone = sent(address.encode(), filename=address).json()
    assert names_alone["name"] == "table.csv"
    assert "0 rows of 1 column" in names_alone["summary"][0]
