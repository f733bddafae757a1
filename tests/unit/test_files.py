"""Files as people have them: with an index, with times in any form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vigie.cli.files import Recording, features, read_table, times_of

TIMES = pd.date_range("2026-01-05 08:00:00.5", periods=4, freq="10s", tz="UTC")
EXPECTED = TIMES.tz_localize(None).to_numpy().astype("datetime64[us]")
READINGS = pd.DataFrame({"flow": [1.0, 2.0, 1.5, 1.2], "rms": [0.1, 0.2, 0.1, 0.3]})


def test_an_index_that_was_written_along_is_no_reading(tmp_path: Path):
    READINGS.to_csv(tmp_path / "bench.csv")
    readings, left_out = features(read_table(tmp_path / "bench.csv"))
    assert list(readings.columns) == ["flow", "rms"]
    assert left_out == ["Unnamed: 0"]


@pytest.mark.parametrize("name", [None, "measured_at"])
def test_times_in_the_index_of_a_parquet_file_are_found(tmp_path: Path, name: str | None):
    READINGS.set_index(TIMES.rename(name)).to_parquet(tmp_path / "bench.parquet")
    table = read_table(tmp_path / "bench.parquet")
    assert np.array_equal(times_of(table, name), EXPECTED)
    assert list(features(table)[0].columns) == ["flow", "rms"]


@pytest.mark.parametrize(
    "written",
    [
        TIMES.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        TIMES.tz_convert("Europe/Paris").map(str),
        TIMES.strftime("%d.%m.%Y %H:%M:%S.%f"),
        TIMES,
        TIMES.map(pd.Timestamp.timestamp),
        pd.Index(TIMES.as_unit("ms").asi8),
        pd.Index(TIMES.as_unit("ns").asi8),
    ],
    ids=["ISO 8601", "another zone", "day first", "times", "seconds since 1970", "ms", "ns"],
)
def test_times_may_be_written_in_any_usual_form(tmp_path: Path, written: pd.Index):
    READINGS.assign(clock=written).to_csv(tmp_path / "bench.csv", index=False)
    found = times_of(read_table(tmp_path / "bench.csv"), "clock")
    assert np.array_equal(found, EXPECTED)


def test_seconds_may_count_from_the_start_of_the_recording():
    found = times_of(READINGS.assign(elapsed=[0.0, 0.5, 1.0, 2.5]), "elapsed")
    assert found is not None
    assert (np.diff(found) / np.timedelta64(1, "ms")).tolist() == [500.0, 500.0, 1500.0]


def test_words_of_a_context_are_kept_whatever_they_look_like(tmp_path):
    cells = ["007", "1.10", "NA", "A7", " B2 ", ""]
    (tmp_path / "t.csv").write_text("rms,product\n" + "".join(f"1.5,{cell}\n" for cell in cells))
    table = read_table(tmp_path / "t.csv", ["product"])
    words = ["007", "1.10", "NA", "A7", "B2", None]
    assert table["product"].where(table["product"].notna(), None).tolist() == words
    parts = Recording(tmp_path / "t.csv").read(["rms", "product"], words=["product"])
    [(table, _)] = list(parts)
    assert table["product"].where(table["product"].notna(), None).tolist() == words


def test_a_context_of_numbers_is_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("rms;load\n1,5;0,25\n1,6;\n1,7;0,75\n")
    table = read_table(tmp_path / "t.csv", ["load"])
    assert table["load"].tolist()[::2] == [0.25, 0.75]
    assert table["load"].isna().tolist() == [False, True, False]
