"""Tables of time series servers: real ones, and answers written as InfluxDB 2 writes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
import time_series
from http_servers import listening

from vigie.errors import InvalidDataError
from vigie.tables.sources import fetch

START_S = 1_767_600_000  # 2026-01-05T08:00:00Z
START, END = "2026-01-05T08:00:00Z", "2026-01-05T16:00:00Z"
LOGIN = "basic_auth_users:\n  vigie: $2b$04$un5/1sVuxyEBxcP5QoqrIuZy07/1K0wmuC7.BHeMnPbYfz3rkPqJS\n"
"""Prometheus' own file of logins, with the bcrypt hash of the password se:cret."""
N = 2880
"""Points every 10 s, which is eight hours."""


def labelled(i: int) -> Iterator[tuple[str, str, str]]:
    """Yield metric, labels and value of each series at a point."""
    for asset in ("a", "b"):
        value = "NaN" if i == 5 else "+Inf" if i == 6 else str(1450 + i % 7)
        yield "rpm", f'asset="{asset}",job="pump"', value
    # It begins after an hour, and stops after two.
    if 360 <= i < 720:
        yield "temperature", 'asset="a",job="pump"', str(40 + i / 1000)


def openmetrics() -> str:
    """Return the readings as promtool takes them."""
    lines: dict[str, list[str]] = {"rpm": [], "temperature": []}
    for i in range(N):
        for metric, labels, value in labelled(i):
            lines[metric].append(f"{metric}{{{labels}}} {value} {START_S + 10 * i}")
    text = [f"# TYPE {metric} gauge\n" + "\n".join(rows) for metric, rows in lines.items()]
    return "\n".join([*text, "# EOF\n"])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, new_port) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    with time_series.prometheus(new_port(), folder, openmetrics()) as host:
        yield f"prometheus+http://{host}"


@pytest.fixture(scope="module")
def victoria(tmp_path_factory: pytest.TempPathFactory, new_port) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("victoria")
    with time_series.victoria_metrics(new_port(), folder) as host:
        lines = (
            f"{metric}{{{labels}}} {value} {START_S * 1000 + 10_000 * i}"
            for i in range(N)
            for metric, labels, value in labelled(i)
        )
        sent = httpx.post(f"http://{host}/api/v1/import/prometheus", content="\n".join(lines))
        sent.raise_for_status()
        httpx.get(f"http://{host}/internal/force_flush").raise_for_status()
        yield f"prometheus+http://{host}"


@pytest.fixture(params=["prometheus", "victoria"])
def server(request: pytest.FixtureRequest) -> str:
    """Each of the two."""
    return str(request.getfixturevalue(request.param))


def refused(url: str, query: str | None, **others: str) -> InvalidDataError:
    with pytest.raises(InvalidDataError) as caught:
        fetch(url, query=query, **others).read_all()
    assert caught.value.__cause__ is None
    return caught.value


def test_each_series_is_a_column_named_by_what_differs(server: str) -> None:
    table = fetch(server, query='{job="pump"}', start=START, end=END, step="10s").read_all()
    columns = ['rpm{asset="a"}', 'rpm{asset="b"}', 'temperature{asset="a"}']
    assert sorted(table.schema.names) == [*columns[:2], columns[2], "time"]
    assert table.schema.field("time").type == pa.timestamp("ms", tz="UTC")
    assert {table.schema.field(name).type for name in columns} == {pa.float64()}
    rows = {round(row["time"].timestamp() - START_S) // 10: row for row in table.to_pylist()}
    assert [rows[i][columns[0]] for i in range(5)] == [1450, 1451, 1452, 1453, 1454]
    # One series begins late, so its column is empty before.
    assert {rows[i][columns[2]] for i in range(360) if i in rows} == {None}
    assert rows[360][columns[2]] == 40.36
    assert rows[2000][columns[2]] is None
    # NaN and infinity are no readings, and a row without any is none; VictoriaMetrics itself
    # fills a NaN with the value before it.
    assert 6 not in rows
    assert 5 not in rows or rows[5][columns[1]] == 1454
    assert len(rows) >= N - 2


def test_a_metric_alone_and_an_expression_have_plain_names(server: str) -> None:
    period = {"start": START, "end": END}
    names = {
        'rpm{asset="a"}': ["time", "rpm"],
        "rpm": ["time", "a", "b"],
        "avg(rpm)": ["time", "value"],
        'max by (asset) (rpm) > 0 or label_replace(rpm{asset="a"}, "asset", "c", "", "")': None,
    }
    for query, expected in names.items():
        table = fetch(server, query=query, **period).read_all()
        if expected:
            assert table.schema.names == expected
        assert len(table) >= 8 * 60


def test_more_points_than_a_request_may_have_come_in_several(server: str) -> None:
    table = fetch(server, query='rpm{asset="a"}', start=START, end=END, step="2s").read_all()
    times = table["time"].cast(pa.int64()).to_pylist()
    assert len(times) > 14_000
    assert times == sorted(set(times))
    steps = {later - earlier for earlier, later in pairwise(times)}
    assert min(steps) == 2000
    assert max(steps) <= 22_000


def test_rows_are_on_multiples_of_the_step(server: str) -> None:
    table = fetch(server, query="rpm", start="2026-01-05T08:02:07Z", end=END).read_all()
    assert table["time"][0].as_py() == datetime(2026, 1, 5, 8, 3, tzinfo=UTC)


def test_a_name_that_the_model_knows_stays_when_another_series_is_missing(server: str) -> None:
    known = ["time", 'temperature{asset="a"}']
    query = '{job="pump",asset="a"}'
    period = {"start": START, "end": END}
    assert fetch(server, query=query, columns=known, **period).schema.names == known


def test_the_period_is_checked(server: str) -> None:
    assert refused(server, "rpm").field == "--start"
    assert refused(server, "rpm", start="yesterday").field == "--start"
    assert refused(server, "rpm", start="1h", end="2h").field == "--end"
    assert refused(server, "rpm", start="1h", step="often").field == "--step"
    error = refused(server, "rpm", start="2020-01-01", end="2020-01-02")
    assert (error.field, "No series" in error.message) == ("--query", True)


def test_an_error_in_promql_is_said(server: str) -> None:
    error = refused(server, "rpm{", start=START, end=END)
    assert error.field == "--query"
    assert "refused the query" in error.message
    assert len(error.message) > 40
    assert refused(server, None, start=START).field == "--query"


def test_a_path_that_is_not_of_prometheus_is_said(server: str) -> None:
    error = refused(f"{server}/elsewhere", "rpm", start=START, end=END)
    assert error.field in ("SOURCE", "--query")


def test_a_server_that_is_down_is_said(new_port) -> None:
    for kind in ("prometheus+http://{}", "influxdb+http://{}?db=plant", "influxdb+http://{}?org=o"):
        url = kind.format(f"vigie:hunter2@127.0.0.1:{new_port()}")
        query = "SELECT rpm FROM pump" if "db=" in url else 'from(bucket: "b")'
        error = refused(url, query, **({"start": "1h"} if "prom" in url else {}))
        assert (error.field, "cannot be reached" in error.message) == ("SOURCE", True)
        assert "hunter2" not in str(error)


def test_logins_of_prometheus(
    tmp_path: Path, new_port, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with protected(new_port(), tmp_path, LOGIN) as host:
        url = f"prometheus+http://{host}"
        period = {"start": START, "end": END}
        for wrong in (url, url.replace("//", "//vigie:hunter2@")):
            error = refused(wrong, "rpm", **period)
            assert (error.field, "401" in error.message) == ("SOURCE", True)
            assert "VIGIE_SOURCE_PASSWORD" in (error.remedy or "")
        monkeypatch.setenv("VIGIE_SOURCE_USERNAME", "vigie")
        monkeypatch.setenv("VIGIE_SOURCE_PASSWORD", "se:cret")
        assert fetch(url, query="rpm", **period).schema.names == ["time", "a", "b"]
    assert "hunter2" not in caplog.text
    assert "se:cret" not in caplog.text


@contextmanager
def protected(port: int, folder: Path, login: str) -> Iterator[str]:
    """Run Prometheus behind a login, which its health asks for too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_series, "await_health", await_login)
        with time_series.prometheus(port, folder, openmetrics(), login) as host:
            yield host


def await_login(name: str, process, url: str, log: Path) -> None:
    for _ in range(300):
        try:
            assert httpx.get(url).status_code == 401
            return
        except httpx.TransportError:
            threading.Event().wait(0.1)
    pytest.fail(log.read_text())


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory, new_port) -> Iterator[str]:
    """InfluxDB 1 with a database ``plant``: its host and port."""
    with time_series.influxdb(new_port(), new_port(), tmp_path_factory.mktemp("influx")) as host:
        admin = "CREATE USER vigie WITH PASSWORD 'se:cret' WITH ALL PRIVILEGES"
        asked = f"http://{host}/query"
        httpx.post(asked, data={"q": admin}).raise_for_status()
        login = ("vigie", "se:cret")
        httpx.post(asked, data={"q": "CREATE DATABASE plant"}, auth=login).raise_for_status()
        lines = [
            f"pump,asset={asset} rpm={1450 + i % 7},starts={i}i,open={'tf'[i % 2]},"
            f'mode="run\x85{i}"'
            f" {START_S}{i:09d}"
            for i in range(25_000)
            for asset in ("a", "b")
        ]
        lines.append(f"pump,asset=a temperature=41.5 {START_S}{3:09d}")
        lines.append(f"fan speed=3 {START_S}{3:09d}")
        httpx.post(
            f"http://{host}/write?db=plant", content="\n".join(lines), auth=login
        ).raise_for_status()
        yield host


@pytest.fixture
def plant(influx: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its URL, with the login in the environment."""
    monkeypatch.setenv("VIGIE_SOURCE_USERNAME", "vigie")
    monkeypatch.setenv("VIGIE_SOURCE_PASSWORD", "se:cret")
    return f"influxdb+http://{influx}?db=plant"


def test_influxql_has_typed_columns(plant: str) -> None:
    reader = fetch(plant, query="SELECT * FROM pump WHERE asset = 'a'")
    assert dict(zip(reader.schema.names, reader.schema.types, strict=True)) == {
        "time": pa.timestamp("ns", tz="UTC"),
        "asset": pa.string(),
        "mode": pa.string(),
        "open": pa.int8(),
        "rpm": pa.float64(),
        "starts": pa.float64(),
        "temperature": pa.float64(),
    }
    batches = list(reader)
    assert len(batches) == 3
    table = pa.Table.from_batches(batches)
    assert len(table) == 25_000
    assert table["time"].cast(pa.int64())[24_999].as_py() == START_S * 10**9 + 24_999
    assert table["open"].to_pylist()[:2] == [1, 0]
    assert table["mode"][1].as_py() == "run\x851"
    assert table["temperature"].null_count == 24_999


def test_tags_of_influxql_become_columns(plant: str) -> None:
    query = "SELECT mean(rpm) FROM pump GROUP BY asset;"
    table = fetch(plant, query=query).read_all()
    assert table.schema.names == ["time", "asset", "mean"]
    assert table["asset"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT rpm FRM pump", "error parsing query"),
        ("SELECT rpm INTO copied FROM pump", "INTO"),
        ("DROP MEASUREMENT pump", "not one SELECT"),
        ("SELECT rpm FROM pump; DROP MEASUREMENT pump", "not one SELECT"),
        ("SELECT rpm FROM pomp", "no rows"),
        ("SELECT mean(rpm) FROM pump, fan GROUP BY asset", None),
    ],
)
def test_an_error_in_influxql_is_said(plant: str, query: str, said: str | None) -> None:
    if said is None:
        assert fetch(plant, query=query).read_all()["asset"].to_pylist() == ["a", "b"]
        return
    error = refused(plant, query)
    assert (error.field, said in error.message) == ("--query", True)


def test_a_wrong_database_or_login_of_influxdb_is_said(
    influx: str, plant: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    query = "SELECT rpm FROM pump"
    assert "database not found" in refused(plant.replace("plant", "works"), query).message
    assert refused(f"influxdb+http://{influx}", query).field == "SOURCE"
    monkeypatch.delenv("VIGIE_SOURCE_USERNAME")
    monkeypatch.delenv("VIGIE_SOURCE_PASSWORD")
    for url in (f"{plant}&u=vigie&p=hunter2", plant.replace("//", "//vigie:hunter2@"), plant):
        error = refused(url, query)
        assert (error.field, "401" in error.message) == ("SOURCE", True)
        assert "hunter2" not in str(error)
    assert len(fetch(f"{plant}&u=vigie&p=se%3Acret", query=query).read_all()) == 50_000
    assert "hunter2" not in caplog.text
    assert "se:cret" not in caplog.text


TYPES = (
    "#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339Nano,string,string,"
    "double,long,boolean"
)
DAY = "2026-01-05T0"
PIVOTED = f"""\
{TYPES}\r
#group,false,false,true,true,false,true,true,false,false,false\r
#default,_result,,,,,,,,,\r
,result,table,_start,_stop,_time,_measurement,asset,rpm,starts,open\r
,,0,{DAY}8:00:00Z,{DAY}9:00:00Z,{DAY}8:00:00Z,pump,a,1450.5,1,true\r
,,0,{DAY}8:00:00Z,{DAY}9:00:00Z,{DAY}8:00:10.123456789Z,pump,"a, ""1""\",,2,false\r
\r
{TYPES}\r
#group,false,false,true,true,false,true,true,false,false,false\r
#default,_result,,,,,,,,,\r
,result,table,_start,_stop,_time,_measurement,asset,rpm,starts,open\r
,,1,{DAY}8:00:00Z,{DAY}9:00:00Z,{DAY}8:00:00Z,pump,b,7,3,true\r
\r
"""
LONG = """\
#datatype,string,long,dateTime:RFC3339,string,string,double\r
#group,false,false,false,true,true,false\r
#default,_result,,,,,\r
,result,table,_time,_measurement,_field,_value\r
,,0,2026-01-05T08:00:00Z,pump,rpm,1450\r
\r
"""
FAILED = """\
#datatype,string,string\r
#group,true,true\r
#default,,\r
,error,reference\r
,Failed to parse query,897\r
"""
REFUSED = '{"code": "invalid", "message": "compilation failed: error at @1:1: undefined x"}'


@pytest.fixture
def influx2() -> Iterator[
    Callable[[str, int], tuple[str, list[tuple[str, dict[str, str], bytes]]]]
]:
    """Answer like InfluxDB 2, as its manual describes it; no package of it is to be had."""

    def start(
        answer: str, status: int = 200
    ) -> tuple[str, list[tuple[str, dict[str, str], bytes]]]:
        asked: list[tuple[str, dict[str, str], bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked.append((self.path, dict(self.headers), body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer.encode())))
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *parts: object) -> None:
                pass

        server = stack.enter_context(listening(ThreadingHTTPServer(("127.0.0.1", 0), Handler)))
        return f"influxdb+http://127.0.0.1:{server.server_port}?org=works&bucket=plant", asked

    with ExitStack() as stack:
        yield start


def test_annotated_csv_has_typed_columns(influx2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFLUX_TOKEN", "t0ken")
    url, _ = influx2(PIVOTED)
    table = fetch(url, query='from(bucket: "plant") |> range(start: -1h)').read_all()
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "time": pa.timestamp("ns", tz="UTC"),
        "asset": pa.string(),
        "rpm": pa.float64(),
        "starts": pa.int64(),
        "open": pa.int8(),
    }
    assert table["asset"].to_pylist() == ["a", 'a, "1"', "b"]
    assert table["rpm"].to_pylist() == [1450.5, None, 7]
    assert table["open"].to_pylist() == [1, 0, 1]
    times = table["time"].cast(pa.int64()).to_pylist()
    assert times[1] - times[0] == 10_123_456_789


def test_a_flux_query_without_bucket_is_completed(influx2) -> None:
    url, asked = influx2(PIVOTED)
    query = '|> filter(fn: (r) => r._measurement == "pump")'
    fetch(url, query=query, start=START, end=END, step="1m").read_all()
    path, _, body = asked[0]
    assert path == "/api/v2/query?org=works"
    sent = httpx.Response(200, content=body).json()["query"]
    assert sent.startswith(
        'from(bucket: "plant") |> range(start: 2026-01-05T08:00:00.000Z, stop: '
        '2026-01-05T16:00:00.000Z) |> filter(fn: (r) => r._measurement == "pump") '
        "|> aggregateWindow(every: 60000ms, fn: mean, createEmpty: false) |> pivot("
    )


def test_the_token_goes_along(influx2, monkeypatch: pytest.MonkeyPatch) -> None:
    url, asked = influx2(PIVOTED)
    monkeypatch.setenv("VIGIE_SOURCE_TOKEN", "t0ken")
    fetch(url, query='from(bucket: "plant")').read_all()
    assert asked[0][1]["Authorization"] == "Token t0ken"


@pytest.mark.parametrize(
    ("answer", "status", "field", "said"),
    [
        (LONG, 200, "--query", "all fields in one column"),
        (FAILED, 200, "--query", "Failed to parse query"),
        (REFUSED, 400, "--query", "undefined x"),
        ('{"code": "unauthorized", "message": "unauthorized access"}', 401, "SOURCE", "login"),
        ("<html>", 200, "SOURCE", "no InfluxDB"),
        ("", 200, "--query", "no rows"),
        ("", 404, "SOURCE", "404"),
        ("", 502, "SOURCE", "502"),
    ],
)
def test_errors_of_flux_are_said(influx2, answer: str, status: int, field: str, said: str) -> None:
    url, _ = influx2(answer, status)
    error = refused(url, 'from(bucket: "plant") |> range(start: -1h)')
    assert (error.field, said in error.message) == (field, True), error


def test_a_series_that_begins_long_after_the_start_is_found(server: str) -> None:
    period = {"start": "2026-01-01", "end": END, "step": "10s"}
    table = fetch(server, query='rpm{asset="a"}', **period).read_all()
    assert table.schema.names == ["time", "rpm"]
    assert table["time"][0].as_py() == datetime(2026, 1, 5, 8, tzinfo=UTC)
    assert N - 2 <= len(table) <= N + 30
