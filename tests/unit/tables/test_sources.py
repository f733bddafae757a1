"""Addresses of sources, and what is asked of them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.errors import InvalidDataError
from vigie.tables.sources import fetch, is_remote_file, is_source, open_remote, shown
from vigie.tables.sources.addresses import Address
from vigie.tables.sources.prometheus import column_names
from vigie.tables.sources.queries import duration_ms, time_ms
from vigie.tables.sources.statements import one_select


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://host/plant", True),
        ("sqlite:///plant.db", True),
        ("duckdb://", True),
        ("prometheus+https://host:9090", True),
        ("INFLUXDB+http://host?db=plant", True),
        ("s3://bucket/x.parquet", True),
        # That it cannot be read is better said than "no such file".
        ("mongodb://host/plant", True),
        ("${PLANT_URL}", True),
        ("readings.csv", False),
        ("/var/plant/readings.parquet", False),
        (r"C:\readings.csv", False),
        ("C:/readings.csv", False),
        ("-", False),
        ("", False),
        ("a ${X}.csv", False),
        ("2026://x", False),
    ],
)
def test_a_url_is_told_from_a_path(text: str, expected: bool) -> None:
    assert is_source(text) is expected


def test_files_are_told_from_databases() -> None:
    assert is_remote_file("https://host/x.csv")
    assert is_remote_file("s3://bucket/x.parquet")
    assert not is_remote_file("postgresql://host/plant")
    with pytest.raises(InvalidDataError, match="does not read from sqlite"):
        open_remote("sqlite:///plant.db")


def test_a_source_is_shown_without_what_is_secret() -> None:
    assert shown("postgresql://vigie:hunter2@host:5432/plant?password=x") == (
        "postgresql://host:5432/plant"
    )
    assert shown("https://host/x.csv?sig=hunter2") == "https://host/x.csv"


def test_an_unknown_kind_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidDataError, match=r"mongodb://.*postgresql://.*s3://") as caught:
        fetch("mongodb://u:hunter2@host/plant", query="x")
    assert "hunter2" not in str(caught.value)


@given(st.text(min_size=1).filter(lambda text: "\x00" not in text and text.isprintable()))
def test_any_password_fits_into_a_url_by_a_variable(password: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLANT_PASSWORD", password)
        address = Address.of("postgresql://vigie:${PLANT_PASSWORD}@host:5432/plant")
    assert (address.username, address.password) == ("vigie", password)
    assert (address.host, address.path) == ("host:5432", "/plant")
    assert not address.is_visible
    if len(password) > 3:
        assert password not in address.cleaned(f"failed for {password}")
        assert repr(password) not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://vigie:hun@ter2/x@host/plant",
        "postgresql://vigie:hun/ter2@host/plant",
        "postgresql://vigie:12/ter2@host/plant",
        "postgresql://vigie:hun#ter2@host/plant",
        "postgresql://vigie:12#ter2@host/plant",
        "postgresql://vigie:12?ter2@host/plant",
        "prometheus+http://vigie:hun?ter2@host",
        "postgresql://[vigie:hunter2@host/plant",
    ],
)
def test_a_password_that_breaks_the_url_is_in_no_message(url: str) -> None:
    with pytest.raises(InvalidDataError, match="%40") as caught:
        fetch(url, query="SELECT 1")
    assert caught.value.field == "SOURCE"
    assert "ter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_url_may_stand_in_a_variable(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PLANT_URL", "sqlite:///nowhere.db?password=hunter2")
    with pytest.raises(InvalidDataError, match=r"no file nowhere\.db"):
        fetch("${PLANT_URL}", query="SELECT 1")
    assert not caplog.records
    with pytest.raises(InvalidDataError, match="OTHER_URL is not set"):
        fetch("${OTHER_URL}", query="SELECT 1")


def test_a_token_in_plain_sight_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    Address.of("https://host/x.csv?token=hunter2").warn_if_visible()
    assert "other users of this machine" in caplog.text
    caplog.clear()
    Address.of("https://host/x.csv?page=2").warn_if_visible()
    assert not caplog.records


NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("2026-01-04T08:00:00Z", datetime(2026, 1, 4, 8, tzinfo=UTC)),
        ("2026-01-04T09:00:00+01:00", datetime(2026, 1, 4, 8, tzinfo=UTC)),
        ("2026-01-04T08:00:00.250", datetime(2026, 1, 4, 8, 0, 0, 250_000, UTC)),
        ("2026-01-04", datetime(2026, 1, 4, tzinfo=UTC)),
        ("1d", datetime(2026, 1, 4, 8, tzinfo=UTC)),
        ("1h30m", datetime(2026, 1, 5, 6, 30, tzinfo=UTC)),
        ("1767513600", datetime(2026, 1, 4, 8, tzinfo=UTC)),
    ],
)
def test_times_are_read(text: str, expected: datetime) -> None:
    assert time_ms(text, round(NOW.timestamp() * 1000), "--start") == expected.timestamp() * 1000


@pytest.mark.parametrize("text", ["yesterday", "", "7 days", "-1h", "2026-13-01", "0d", "1d1"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidDataError, match="is no time") as caught:
        time_ms(text, 0, "--end")
    assert caught.value.field == "--end"


def test_durations_are_read() -> None:
    assert duration_ms("500ms") == 500
    assert duration_ms("1m30s") == duration_ms("90") == 90_000
    assert duration_ms("1.5") == 1500
    assert duration_ms("often") is None


METRIC = "__name__"


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([{METRIC: "rpm", "job": "pump"}, {METRIC: "flow", "job": "pump"}], ["rpm", "flow"]),
        ([{METRIC: "rpm", "asset": "a"}, {METRIC: "rpm", "asset": "b"}], ["a", "b"]),
        ([{METRIC: "rpm", "asset": "a"}], ["rpm"]),
        ([{}], ["value"]),
        ([{"asset": "a"}], ["value"]),
        (
            [{METRIC: "rms", "axis": "x"}, {METRIC: "rms", "axis": "y"}, {METRIC: "rpm"}],
            ['rms{axis="x"}', 'rms{axis="y"}', "rpm"],
        ),
        ([{"a": "x", "b": "1"}, {"a": "y", "b": '"2"'}], ['{a="x",b="1"}', '{a="y",b="\\"2\\""}']),
        ([{METRIC: "rms"}, {METRIC: "rms", "axis": "x"}], ["rms", "x"]),
    ],
)
def test_columns_are_named_by_the_labels_that_differ(
    series: list[dict[str, str]], expected: list[str]
) -> None:
    assert column_names(series) == expected


@given(
    st.lists(
        st.dictionaries(st.sampled_from([METRIC, "a", "b"]), st.text('xy,="{}', min_size=1)),
        min_size=1,
        max_size=6,
        unique_by=lambda labels: tuple(sorted(labels.items())),
    )
)
def test_no_two_columns_have_one_name(series: list[dict[str, str]]) -> None:
    names = column_names(series)
    assert len(set(names)) == len(series)
    assert column_names(series, names) == names


def test_names_that_a_model_knows_are_found_again() -> None:
    x = {METRIC: "rms", "axis": "x", "asset": "a"}
    y = {METRIC: "rms", "axis": "y", "asset": "a"}
    rpm = {METRIC: "rpm", "asset": "a"}
    known = column_names([x, y, rpm])
    assert column_names([x, rpm], known) == ['rms{axis="x"}', "rpm"]
    assert column_names([y], known) == ['rms{axis="y"}']
    assert column_names([x], column_names([x, y])) == ["x"]
    # Which of two is meant would be a guess.
    assert column_names([x, y], ["rms"]) == ["x", "y"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1",
        "select 1;",
        " WITH some AS (SELECT ';') SELECT * FROM some ; -- five",
        "/* all; of it */ SELECT * FROM r",
        "-- all\nSELECT 'x;y', \"a;b\" FROM r",
        "(SELECT 1) UNION (SELECT 2)",
        "SELECT * FROM r WHERE name = 'DROP TABLE r; SELECT'",
    ],
)
def test_one_select_is_let_through(query: str) -> None:
    assert one_select(query).strip() in query


@pytest.mark.parametrize(
    "query",
    [
        "",
        "-- nothing",
        "DROP TABLE r",
        "SELECT 1; DROP TABLE r",
        "SELECT 1;; SELECT 2",
        "EXPLAIN SELECT 1",
        "PRAGMA journal_mode=DELETE",
        "ATTACH 'x.db' AS x",
        "COPY r TO 'x.csv'",
        "SET TRANSACTION READ WRITE; SELECT 1",
        "selected",
    ],
)
def test_other_statements_are_refused(query: str) -> None:
    with pytest.raises(InvalidDataError, match="not one SELECT"):
        one_select(query)


def test_duckdb_that_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(InvalidDataError) as caught:
        fetch("duckdb:///plant.duckdb", query="SELECT 1")
    assert caught.value.remedy == "pip install 'vigie[duckdb]'"
