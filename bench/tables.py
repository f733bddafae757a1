"""Reading tables: CSV in several dialects and Parquet, each read by a process of its own."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from figures import Figure, Spread, peak_kb, within
from pyarrow import compute as pc
from pyarrow import csv, parquet

N_SENSORS, N_OF_PARQUET = 10, 20
NAMES = [f"sensor_{number:02d}" for number in range(1, N_SENSORS + 1)]
NAMES_OF_PARQUET = [f"sensor_{number:02d}" for number in range(1, N_OF_PARQUET + 1)]
CASES = {
    "clean": "ISO times",
    "comma": "semicolons and decimal commas",
    "slashes": "times as day/month/year",
    "thousands": "thousands marks in one column",
}
CSV_GOAL = 1 / 1.3


def measure(quick: bool) -> Iterator[Figure]:
    """Yield the figures of tables."""
    n_csv, n_parquet, runs = (100_000, 500_000, 1) if quick else (2_000_000, 10_000_000, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case, words in CASES.items():
            path = folder / f"{case}.csv"
            write(path, case, n_csv)
            what = f"CSV, {n_csv:,} × {N_SENSORS}, {words}"
            whole, parts = ("whole", "pyarrow", "pandas"), ("parts", "pyarrow_parts")
            yield from _side_by_side(f"{what}, whole", path, whole, runs)
            yield from _side_by_side(f"{what}, in parts", path, parts, runs)
            path.unlink()
        path = folder / "recording.parquet"
        importlib.import_module("files").write(path, n_parquet)
        what = f"Parquet, {n_parquet:,} × {N_OF_PARQUET}, in parts"
        yield from _side_by_side(what, path, ("parts", "pyarrow_batches"), runs)


def write(path: Path, case: str, n_rows: int) -> None:
    """Write healthy readings, block by block."""
    rng = np.random.default_rng(0)
    separator = ";" if case == "comma" else ","
    form = "%d/%m/%Y %H:%M:%S" if case == "slashes" else "%Y-%m-%d %H:%M:%S"
    with path.open("w", encoding="utf-8") as file:
        file.write(separator.join(["time", *NAMES]) + "\n")
        for first in range(0, n_rows, 100_000):
            numbers = np.arange(first, min(first + 100_000, n_rows))
            times = np.datetime64("2026-01-05", "s") + numbers * np.timedelta64(1, "s")
            rows = np.round(rng.normal(50, 12, size=(len(numbers), N_SENSORS)), 3)
            columns = [pc.strftime(pa.array(times), form), *map(pa.array, rows.T)]
            if case == "thousands":
                columns[-1] = pa.array([f"{100 * value:,.1f}" for value in rows[:, -1].tolist()])
            block = io.BytesIO()
            # Only a cell with a separator gets quotes.
            style = csv.WriteOptions(include_header=False, quoting_style="needed")
            csv.write_csv(pa.table(columns, ["time", *NAMES]), block, style)
            text = block.getvalue().decode()
            if case != "thousands":
                text = text.replace('"', "")
            file.write(text.replace(",", ";").replace(".", ",") if case == "comma" else text)


def whole(path: Path) -> None:
    """Read a whole file with Vigie, as a training does."""
    from vigie.tables.reading import read_table

    assert read_table(path).times is not None


def parts(path: Path) -> None:
    """Read a file in parts with Vigie, as ``vigie detect`` does."""
    from vigie.tables.machines import Known, open_machines
    from vigie.tables.options import UNSTATED

    names = NAMES if path.suffix == ".csv" else NAMES_OF_PARQUET
    [recording] = open_machines(path, UNSTATED, known=lambda _: Known(names))
    for table, times in recording.read(names):
        assert times is not None
        assert len(times) == len(table)


def pyarrow(path: Path) -> None:
    """Read a whole file with pyarrow, whose user states what Vigie finds out."""
    csv.read_csv(path, **_options(path.stem))


def pyarrow_parts(path: Path) -> None:
    """Read a file in parts with pyarrow."""
    for _ in csv.open_csv(path, **_options(path.stem)):
        pass


def pyarrow_batches(path: Path) -> None:
    """Read a Parquet file in parts with pyarrow, to NumPy."""
    with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16) as file:
        for batch in file.iter_batches(32_768):
            for name in NAMES_OF_PARQUET:
                batch.column(name).to_numpy()


def pandas(path: Path) -> None:
    """Read a whole file with pandas, whose user states what Vigie finds out."""
    import pandas as pd

    pd.read_csv(
        path,
        sep=";" if path.stem == "comma" else ",",
        decimal="," if path.stem == "comma" else ".",
        thousands="," if path.stem == "thousands" else None,
        parse_dates=["time"],
        dayfirst=path.stem == "slashes",
    )


def _options(case: str) -> dict[str, Any]:
    """Return what pyarrow must be told; it leaves other times, and thousands marks, as text."""
    types = dict.fromkeys(NAMES, pa.float64())
    if case == "slashes":
        types["time"] = pa.string()
    if case == "thousands":
        types[NAMES[-1]] = pa.string()
    is_comma = case == "comma"
    return {
        "parse_options": csv.ParseOptions(delimiter=";" if is_comma else ","),
        "convert_options": csv.ConvertOptions(
            column_types=types, decimal_point="," if is_comma else "."
        ),
    }


def _side_by_side(what: str, path: Path, readers: tuple[str, ...], runs: int) -> Iterator[Figure]:
    """Compare the first reader, which is ours, with each other one, in turns."""
    _in_process(readers[0], path)
    costs = [{reader: _in_process(reader, path) for reader in readers} for _ in range(runs)]
    mine = readers[0]
    for peer in readers[1:]:
        cpu = Spread.of([cost[peer]["cpu"] / cost[mine]["cpu"] for cost in costs])
        yield Figure(
            what,
            "s",
            Spread.of([cost[mine]["wall"] for cost in costs]),
            Spread.of([cost[peer]["wall"] for cost in costs]),
            peer.replace("_", ", in "),
            Spread.of([cost[peer]["wall"] / cost[mine]["wall"] for cost in costs]),
            CSV_GOAL if peer.startswith("pyarrow") and path.suffix == ".csv" else None,
            f"of processor time {cpu.median:.2f} ×",
        )
    goal = 1000.0 if mine == "parts" else None
    yield within(
        f"{what}: largest peak of memory", [c[mine]["peak"] for c in costs], unit="MB", goal=goal
    )


def _in_process(reader: str, path: Path) -> dict[str, float]:
    """Return what reading a file costs a new process, once it has imported all it needs."""
    command = [sys.executable, __file__, reader, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    cost: dict[str, float] = json.loads(done.stdout)
    return cost


def _main(reader: str, path: str) -> None:
    for module in ("pandas", "vigie.tables.machines"):
        importlib.import_module(module)
    started, busy = time.perf_counter(), time.process_time()
    globals()[reader](Path(path))
    wall, cpu = time.perf_counter() - started, time.process_time() - busy
    peak = peak_kb(os.getpid()) / 1024
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
