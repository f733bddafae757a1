"""Files that are longer than what is looked at before they are read."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vigie.errors import InvalidDataError
from vigie.tables.machines import Known, open_machines
from vigie.tables.options import UNSTATED, ReadOptions, TimeOptions
from vigie.tables.reading import Recording, read_table

N_ROWS = 60_000
"""Of 60 bytes each: more than the first block, and than one part."""
MOMENTS = pd.date_range("2024-01-03", periods=N_ROWS, freq="min")


def written(folder: Path, times: Sequence[str], name: str = "a.csv") -> Path:
    path = folder / name
    lines = [
        f"{time},{i % 97}.25,{i % 89}.5,some words that are no reading"
        for i, time in enumerate(times)
    ]
    text = "\n".join(["time,a,b,remark", *lines, ""]).encode()
    path.write_bytes(gzip.compress(text, 1) if name.endswith("gz") else text)
    return path


def times_of(path: Path, options: ReadOptions = UNSTATED) -> pd.DatetimeIndex:
    parts = [times for _, times in Recording(path, options=options).read(["a", "b"])]
    return pd.DatetimeIndex(np.concatenate([part for part in parts if part is not None]))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize(
    "form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"]
)
def test_the_times_of_all_parts_are_those_of_the_file(tmp_path: Path, form: str, name: str):
    assert times_of(written(tmp_path, MOMENTS.strftime(form), name)).equals(MOMENTS)


def test_a_clock_that_is_set_back_late_is_followed_and_said(tmp_path: Path):
    nights = pd.date_range("2024-09-20", periods=N_ROWS, freq="min", tz="Europe/Paris")
    recording = Recording(written(tmp_path, nights.strftime("%Y-%m-%d %H:%M:%S")))
    times = np.concatenate([part for _, part in recording.read(["a"]) if part is not None])

    assert (np.diff(times) == np.timedelta64(1, "m")).all()
    assert any("The clock was set back by 60 minutes" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("yesterday", "'yesterday' in row 50001"),
        ("2024-01-01 00:00:00", "not ascending: see row 50001"),
        ("2024-02-06 17:20:00+01:00", "The time in row 50001 has a zone"),
        ("", "row 50001"),
    ],
)
def test_a_late_row_at_fault_is_named(tmp_path: Path, cell: str, message: str):
    times = MOMENTS.strftime("%Y-%m-%d %H:%M:%S").tolist()
    times[50_000] = cell
    with pytest.raises(InvalidDataError, match=message):
        times_of(written(tmp_path, times))


def test_a_late_number_with_the_other_decimal_mark_is_named(tmp_path: Path):
    path = tmp_path / "a.csv"
    numbers = [f"{1 + i % 700 / 1000:.3f}".replace(".", ",") for i in range(N_ROWS)]
    numbers[50_000] = "1.632"
    times = MOMENTS.strftime("%Y-%m-%d %H:%M:%S")
    lines = [f"{time};{a};1,5;some more" for time, a in zip(times, numbers, strict=True)]
    path.write_text("\n".join(["time;a;b;remark", *lines, ""]))
    with pytest.raises(InvalidDataError, match=r"'1\.632' in row 50001 is written otherwise"):
        times_of(path)


def test_a_late_row_in_another_form_is_read_as_the_order_of_rows_has_it(tmp_path: Path):
    times = MOMENTS.strftime("%Y-%m-%d %H:%M:%S").tolist()
    times[50_000] = "06/02/2024 17:20:00"
    assert times_of(written(tmp_path, times)).equals(MOMENTS)


def test_days_that_only_a_late_row_tells_from_months_are_read_right(tmp_path: Path):
    moments = pd.date_range("2024-02-03", periods=N_ROWS, freq="s").append(
        pd.date_range("2024-02-25", periods=10, freq="s")
    )
    assert times_of(written(tmp_path, moments.strftime("%d/%m/%Y %H:%M:%S"))).equals(moments)


def test_a_stated_zone_is_kept_to_the_end(tmp_path: Path):
    nights = pd.date_range("2024-09-20", periods=N_ROWS, freq="min", tz="Europe/Paris")
    path = written(tmp_path, nights.strftime("%Y-%m-%d %H:%M:%S"))
    options = ReadOptions(times=TimeOptions(timezone="Europe/Paris"))
    assert times_of(path, options).equals(nights.tz_convert("UTC").tz_localize(None))


@pytest.mark.parametrize("n_machines", [2, 3])
def test_machines_one_below_the_other_are_seen_before_the_first_row_is_read(
    tmp_path: Path, n_machines: int
):
    path = tmp_path / "fleet.csv"
    block = [f"{time:%Y-%m-%d %H:%M:%S}" for time in MOMENTS[:40_000]]
    rows = [
        f"{time},pump-{machine},{i % 97}.25,{i % 89}.5,a longer remark of it"
        for machine in range(n_machines)
        for i, time in enumerate(block)
    ]
    path.write_text("\n".join(["time,asset,a,b,remark", *rows, ""]))
    with pytest.raises(InvalidDataError, match="several machines: asset tells them apart"):
        open_machines(path, UNSTATED, known=lambda _: Known(["a", "b"]))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_names_that_are_repeated_late_are_left_out_with_a_note(tmp_path: Path, name: str):
    times = MOMENTS.strftime("%Y-%m-%d %H:%M:%S").tolist()
    path = written(tmp_path, times)
    lines = path.read_text().splitlines()
    lines[40_001:40_001] = lines[50_001:50_001] = lines[:1]
    text = "\n".join([*lines, ""]).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text, 1) if name.endswith("gz") else text)
    recording = Recording(path)
    parts = list(recording.read(["a", "b"]))
    assert sum(len(part) for part, _ in parts) == N_ROWS
    assert np.array_equal(np.concatenate([moments for _, moments in parts]), MOMENTS)
    assert recording.notes.count("Lines that repeat the names are left out") == 1


def test_names_that_are_repeated_late_invent_no_row_without_times(tmp_path: Path):
    path = tmp_path / "a.csv"
    rows = [f"{i % 97}.25,{i % 89}.5,{'0' * 30}{i % 7}" for i in range(N_ROWS)]
    path.write_text("\n".join(["a,b,c", *rows[:40_000], "a,b,c", *rows[40_000:], ""]))
    for table in (read_table(path).frame, pd.concat([x for x, _ in Recording(path).read(["a"])])):
        assert list(table["a"]) == [i % 97 + 0.25 for i in range(N_ROWS)]


def test_a_late_word_that_is_also_a_name_leaves_its_row(tmp_path: Path):
    path = tmp_path / "a.csv"
    rows = [f"{i % 97}.25,{i % 89}.5,{'0' * 30}{i % 7}" for i in range(N_ROWS)]
    rows[40_000] = "a,1.5,3"
    path.write_text("\n".join(["a,b,c", *rows, ""]))
    frame = read_table(path).frame
    assert len(frame) == N_ROWS
    assert list(np.flatnonzero(frame["a"].isna())) == [40_000]
