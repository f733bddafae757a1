"""Prometheus and VictoriaMetrics: PromQL over a period, each series a column."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigie.errors import InvalidDataError
from vigie.tables.sources.addresses import Address
from vigie.tables.sources.columns import ROWS_AT_A_TIME
from vigie.tables.sources.queries import Request
from vigie.tables.sources.web import address_of, client, refusal

if TYPE_CHECKING:
    import httpx
    import pyarrow as pa

logger = logging.getLogger(__name__)

STEP_MS = 60_000
"""The time between two rows by default."""
FIRST_POINTS, NEXT_POINTS, MOST_POINTS = 50, 1000, 10_000
"""Points of the first request, of those after an answer without series, and of any: Prometheus
refuses more than 11 000."""
VALUES_AT_A_TIME = 500_000
"""Values of a request, about 15 MB of JSON."""
EXAMPLE = "--query '{job=\"pump\"}'."
PERIOD = "For the last seven days: --start 7d."

_LABEL = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")')
Series = Mapping[str, str]
"""The labels of a series, its metric under ``__name__``."""


def read(request: Request) -> Iterator[pa.RecordBatch]:
    """Yield the values of all series at each step, and before them the column ``time``.

    A series without a value at a step has none in that row, and a row without any value is left
    out. NaN and infinity are no values. A series may begin late, and columns are named by what
    tells all series apart: so the answers wait in temporary files until the last is there.

    Raises
    ------
    InvalidDataError
        If the server cannot be reached, or refuses the query.
    """
    query = request.required_query(EXAMPLE)
    start, end = request.period_ms(PERIOD)
    step = request.step_ms() or STEP_MS
    # On multiples of the step, so that neighbouring periods share their points.
    start = -(-start // step) * step
    with tempfile.TemporaryDirectory() as folder:
        stretches, known = _fetched(request.address, query, (start, end, step), Path(folder))
        if not known:
            raise InvalidDataError(
                "No series has a value in this period.",
                field="--query",
                remedy="Correct the query, or the period by --start and --end.",
            )
        names = column_names(known, request.columns or ())
        yield from _rows(stretches, names, step)


def _fetched(
    address: Address, query: str, period: tuple[int, int, int], folder: Path
) -> tuple[list[tuple[int, Path]], list[Series]]:
    """Ask for a period in stretches, and keep them as files; return these and all series."""
    start, end, step = period
    stretches: list[tuple[int, Path]] = []
    positions: dict[str, int] = {}
    said: set[str] = set()
    points = FIRST_POINTS
    with client(address) as http:
        while start <= end:
            last = min(start + (points - 1) * step, end)
            answer = _answer(address, http, query, (start, last, step))
            for warning in _warnings(answer) - said:
                logger.warning("%s: %s", address.shown, address.cleaned(warning))
                said.add(warning)
            n_points = (last - start) // step + 1
            path = folder / f"{len(stretches)}.arrow"
            n_series = _keep(answer["data"]["result"], (start, step, n_points), positions, path)
            stretches.append((start, path))
            # Answers stay small, however many series there are.
            fitting = VALUES_AT_A_TIME // n_series if n_series else NEXT_POINTS
            points = max(1, min(MOST_POINTS, fitting))
            start = last + step
    return stretches, [json.loads(labels) for labels in positions]


def _answer(
    address: Address, http: httpx.Client, query: str, period: tuple[int, int, int]
) -> dict[str, Any]:
    """Return one answer of the API.

    Raises
    ------
    InvalidDataError
        If it is a refusal, or not an answer of this API.
    """
    start, end, step = (f"{ms / 1000:.3f}" for ms in period)
    asked = {"query": query, "start": start, "end": end, "step": step}
    # By POST, since a query may be longer than an address may be.
    response = http.post(address_of(address, "/api/v1/query_range"), data=asked)
    try:
        answer = response.json()
        is_answer = isinstance(answer, dict) and answer.get("status") in ("success", "error")
    except ValueError:
        answer, is_answer = {}, False
    if not response.is_success or not is_answer or answer["status"] == "error":
        said = address.cleaned(str(answer.get("error", ""))) if is_answer else ""
        if response.is_success and not is_answer:
            raise InvalidDataError(
                f"{address.shown} is no Prometheus: its answer is not JSON of that API.",
                field="SOURCE",
                remedy="Correct the address; a path before /api/v1 belongs to it.",
            )
        raise refusal(address, response.status_code, said.rstrip("."))
    return dict(answer)


def _warnings(answer: Mapping[str, Any]) -> set[str]:
    """Return what an answer that succeeded complains of."""
    said = {*answer.get("warnings", ()), *answer.get("infos", ())}
    # VictoriaMetrics' word for a cluster of which a part is down.
    return {*said, "The answer is not complete."} if answer.get("isPartial") else said


def _keep(
    result: Sequence[Mapping[str, Any]],
    grid: tuple[int, int, int],
    positions: dict[str, int],
    path: Path,
) -> int:
    """Write the values of a stretch into a file, and number the series that are new.

    Parameters
    ----------
    result : sequence of mapping
        The series of an answer: ``metric`` and ``values``.
    grid : tuple of int
        Time of the first point and between points, in ms, and the number of points.
    positions : dict of str to int
        The number of each series, by its labels as JSON.
    path : Path
        The file, whose columns are called by these numbers.

    Returns
    -------
    n_series : int
        The number of series of the answer.
    """
    import numpy as np
    import pyarrow as pa
    from pyarrow import feather

    start, step, n_points = grid
    columns = {}
    for series in result:
        labels = series["metric"]
        if "values" not in series:
            raise InvalidDataError(
                f"{labels.get('__name__', 'A series')} is a histogram.",
                field="--query",
                remedy="Make numbers of it, such as by histogram_quantile(0.5, …).",
            )
        number = positions.setdefault(json.dumps(labels, sort_keys=True), len(positions))
        times, values = zip(*series["values"], strict=True)
        # JSON has the values as text, "NaN" and "+Inf" among them.
        points = np.rint((np.asarray(times, float) * 1000 - start) / step).astype(int)
        is_wanted = (points >= 0) & (points < n_points)
        column = np.full(n_points, np.nan)
        column[points[is_wanted]] = np.asarray(values, float)[is_wanted]
        column[np.isinf(column)] = np.nan
        columns[str(number)] = pa.array(column, from_pandas=True)
    if columns:
        feather.write_feather(pa.table(columns), path, compression="lz4")
    return len(columns)


def _rows(
    stretches: Sequence[tuple[int, Path]], names: Sequence[str], step: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all stretches, those without any value left out."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import feather

    fields = [(name, pa.float64()) for name in names]
    schema = pa.schema([("time", pa.timestamp("ms", tz="UTC")), *fields])
    yield pa.RecordBatch.from_pylist([], schema=schema)
    for start, path in stretches:
        if not path.exists():
            continue
        table = feather.read_table(path, memory_map=False)
        missing = pa.nulls(len(table), pa.float64())
        columns = [
            table[str(i)].combine_chunks() if str(i) in table.column_names else missing
            for i in range(len(names))
        ]
        is_empty = np.ones(len(table), bool)
        for name in table.column_names:
            is_empty &= table[name].is_null().to_numpy(zero_copy_only=False)
        times = pa.array(start + np.arange(len(table)) * step, schema.field(0).type)
        batch = pa.RecordBatch.from_arrays([times, *columns], schema=schema)
        full = batch.filter(pa.array(~is_empty))
        yield from (full[i : i + ROWS_AT_A_TIME] for i in range(0, len(full), ROWS_AT_A_TIME))


def column_names(known: Sequence[Series], wanted: Collection[str] = ()) -> list[str]:
    """Name each series by the labels that tell it from the others.

    The metric stands alone where it suffices, as in ``vibration``, and else before the labels, as
    in ``vibration{axis="x"}``; so does a value where only one label differs, as in ``pump-1``.

    Parameters
    ----------
    known : sequence of mapping
        The labels of each series.
    wanted : collection of str
        Names that a model knows. Which labels differ depends on what there is: where a series is
        missing today, the others are still called by these names, as long as each fits one.

    Returns
    -------
    names : list of str
        One for each series, no two alike.
    """
    labels = sorted({label for series in known for label in series})
    differ = [name for name in labels if len({series.get(name) for series in known}) > 1]
    if not differ:
        differ = ["__name__"] if "__name__" in labels else []
    names = [_name(series, differ) for series in known]
    for name in wanted:
        fitting = [] if name in names else [i for i, one in enumerate(known) if _fits(one, name)]
        if len(fitting) == 1 and names[fitting[0]] not in wanted:
            names[fitting[0]] = name
    return names


def _name(series: Series, labels: Sequence[str]) -> str:
    if len(labels) == 1 and series.get(labels[0]):
        return series[labels[0]]
    metric = series.get("__name__", "") if "__name__" in labels else ""
    others = [name for name in labels if name != "__name__" and name in series]
    told = ",".join(f"{name}={json.dumps(series[name], ensure_ascii=False)}" for name in others)
    return f"{metric}{{{told}}}" if told else series.get("__name__", "value")


def _fits(series: Series, name: str) -> bool:
    """Return whether a series could have a name among others."""
    if name in series.values():
        return True
    metric = name.partition("{")[0]
    labels = _LABEL.findall(name)
    return (
        bool(labels)
        and metric in ("", series.get("__name__"))
        and all(series.get(label) == json.loads(value) for label, value in labels)
    )
