"""All assessed rows as CSV or JSON, for other programs.

Arrow joins whole columns to lines, so that no row becomes a Python object.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vigie.assessment.assessment import LEVELS, Assessment
from vigie.assessment.status import STATES
from vigie.assessment.stream import Part
from vigie.assessment.trained_range import OutOfRange
from vigie.cli.render.times import iso, iso_times, unit_of
from vigie.detectors.base import Floats
from vigie.events.event import Event
from vigie.printable import cell_for_people

COLUMNS = ("row", "time", "final_score", "is_anomaly", "criticality", "sensor", "state", "began",
           "evidence", "imputed", "frozen", "unseen")  # fmt: skip
"""The columns before the scores of the models."""


class Writer:
    """Write rows to a binary stream in parts.

    JSON is one document with ``versions``, ``threshold``, ``rows``, ``events`` and
    ``out_of_trained_range``; CSV has a header and a line for each row.

    Parameters
    ----------
    out : binary file
        The stream.
    is_json : bool
        Whether to write JSON rather than CSV.
    versions : mapping of str to int or None
        The models, each with its version.
    threshold : float
        The score above which a reading is an anomaly.
    has_assets : bool
        Whether each row begins with the name of its machine.
    is_for_people : bool
        Whether text in CSV is written so that a spreadsheet takes it as text.
    """

    def __init__(
        self,
        out: BinaryIO,
        is_json: bool,
        versions: Mapping[str, int | None],
        threshold: float,
        has_assets: bool = False,
        is_for_people: bool = True,
    ):
        self._is_for_people = is_for_people
        self._out, self._is_json, self._has_assets = out, is_json, has_assets
        self._is_first, self._unit, self._models = True, "s", list(versions)
        names = [*(["asset"] if has_assets else []), *COLUMNS, *versions]
        if self._is_json:
            # The text before each value, as in `{"row": 1, "final_score": 0.5, ...`
            self._before = [f"{', ' if at else '{'}{json.dumps(n)}: " for at, n in enumerate(names)]
            self._end, self._null = "}", "null"
            head = {"versions": named(versions), "threshold": threshold}
            self._write(f'{json.dumps(head)[:-1]}, "rows": [')
        else:
            self._before = ["," if at else "" for at in range(len(names))]
            self._end, self._null = "\r\n", ""
            self._write(_csv_line(names, is_for_people))

    def write(self, part: Part, first: int = 0, asset: str | None = None) -> None:
        """Write the rows of the next part.

        Parameters
        ----------
        part : Part
            The rows.
        first : int
            Number of the machine's first row in the file, from 0.
        asset : str, optional
            The machine.
        """
        assessment, n_rows = part.assessment, len(part.assessment)
        if n_rows == 0:
            return
        anomalous, leading = np.flatnonzero(assessment.is_anomaly), np.full(n_rows, -1)
        leading[anomalous] = assessment.leading(anomalous)
        start = first + part.first + 1
        # A machine with models of its own may lack one that others have.
        scored, unscored = assessment.scores.p_values, np.full(n_rows, np.nan)
        whose = [pa.repeat(self._texts([asset or ""])[0], n_rows)] if self._has_assets else []
        columns = [
            *whose,
            pc.cast(pa.array(np.arange(start, start + n_rows)), pa.string()),
            self._times(part),
            self._scores(assessment.p_values),
            self._take(self._booleans, assessment.is_anomaly),
            self._take(self._texts(LEVELS), assessment.levels),
            self._take(self._texts(assessment.rows.sensors.names), leading),
            self._take(self._texts(STATES), assessment.statuses.states),
            self._began(part),
            self._scores(assessment.asset_p_values),
            self._imputed(assessment),
            self._frozen(assessment),
            self._unseen(assessment),
            *(self._scores(scored.get(name, unscored)) for name in self._models),
        ]
        pieces = [piece for pair in zip(self._before, columns, strict=True) for piece in pair]
        if self._is_json:
            pieces[0] = f", {pieces[0]}"
        _, offsets, text = pc.binary_join_element_wise(*pieces, self._end, "").buffers()
        size = int(np.frombuffer(offsets, dtype=np.int32)[n_rows])
        # The first row of a JSON document has no comma before it.
        skipped = 2 if self._is_json and self._is_first else 0
        self._is_first = False
        self._out.write(memoryview(text)[skipped:size])

    def close(self, summary: Mapping[str, Any] = {}) -> None:
        """Write the end of the document; in JSON, a summary follows the rows."""
        if self._is_json:
            rest = json.dumps(summary, allow_nan=False)[1:]
            self._write(f"]{', ' if summary else ''}{rest}\n")
        self._out.flush()

    def _write(self, text: str) -> None:
        self._out.write(text.encode())

    @property
    def _booleans(self) -> list[str]:
        return ["false", "true"] if self._is_json else ["False", "True"]

    def _texts(self, texts: Sequence[str]) -> list[str]:
        return [
            json.dumps(t) if self._is_json else _csv_line([t], self._is_for_people)[:-2]
            for t in texts
        ]

    def _times(self, part: Part) -> Any:
        """Return the times as text, or null if there are none."""
        if part.times is None:
            return pa.repeat(self._null, len(part.assessment))
        # Once some times have fractions of a second, all have: other programs guess one format.
        self._unit = unit_of(part.times, self._unit)
        quote = '"' if self._is_json else ""
        times = iso_times(part.times, self._unit)
        return pc.binary_join_element_wise(quote, times, f"Z{quote}", "")

    def _began(self, part: Part) -> Any:
        """Return when the change behind an alarm began as text, or null in other states."""
        assessment = part.assessment
        found = np.full(len(assessment), -1)
        if part.times is None or not assessment.in_alarm.any():
            return self._take([self._null], found)
        raised = assessment.statuses.entered
        texts: list[str] = []
        for row in np.unique(raised[assessment.in_alarm]).tolist():
            alarmed = assessment.in_alarm & (raised == row)
            moment = assessment.status(int(np.flatnonzero(alarmed)[0])).began
            if moment is not None:
                found[alarmed] = len(texts)
                quote = '"' if self._is_json else ""
                texts.append(f"{quote}{iso(moment)}{quote}")
        return self._take(texts or [self._null], found)

    def _scores(self, p_values: Floats) -> Any:
        """Return ``1 - p`` as text, or null if there is no p-value."""
        scores = pa.array(1.0 - p_values, mask=np.isnan(p_values))
        return pc.fill_null(pc.cast(scores, pa.string()), self._null)

    def _take(self, texts: Sequence[str], indices: NDArray[Any]) -> Any:
        """Return the text at an index for each row; null for index -1."""
        nullable = pa.array(indices.astype(np.int64), mask=indices < 0)
        return pc.fill_null(pa.array(texts, pa.string()).take(nullable), self._null)

    def _imputed(self, assessment: Assessment) -> Any:
        sensors = assessment.rows.sensors.names
        cells = []
        for kind, mask in assessment.rows.masks.items():
            for column in np.flatnonzero(mask.any(axis=0)).tolist():
                value = json.dumps(kind) if self._is_json else ""
                cells.append((mask[:, column], sensors[column], value))
        return self._mapping(cells, len(assessment))

    def _frozen(self, assessment: Assessment) -> Any:
        sensors = assessment.rows.sensors.names
        cells = []
        for column in np.flatnonzero(assessment.frozen.any(axis=0)).tolist():
            held = pc.cast(pa.array(assessment.held[:, column]), pa.string())
            value = held if self._is_json else ""
            cells.append((assessment.frozen[:, column], sensors[column], value))
        return self._mapping(cells, len(assessment))

    def _unseen(self, assessment: Assessment) -> Any:
        cells = []
        for name, (mask, values) in assessment.unseen_context().items():
            # Rows of one stretch mostly share a value, so few become Python objects.
            found, of_unseen = np.unique(values[mask], return_inverse=True)
            places = np.zeros(len(mask), np.int64)
            places[mask] = of_unseen
            words = assessment.rows.words if name in assessment.rows.sensors.words else None
            told = [v if words is None else words.get(v) for v in found.tolist()]
            texts = [json.dumps(v) if self._is_json else f"={v}" for v in told]
            cells.append((mask, name, pa.array(texts, pa.string()).take(pa.array(places))))
        return self._mapping(cells, len(assessment))

    def _mapping(self, cells: Sequence[tuple[NDArray[np.bool_], str, Any]], n_rows: int) -> Any:
        """Return a mapping for each row: a JSON object, or in CSV its names with semicolons.

        Each of ``cells`` has the mask of its rows, the name, and the value: one text, or one for
        each row. In CSV the value follows its name.
        """
        before, between, after = ("{", ", ", "}") if self._is_json else ("", ";", "")
        items = [pa.repeat("", n_rows)]
        for mask, name, value in cells:
            key = f"{between}{json.dumps(name)}: " if self._is_json else f"{between}{name}"
            item = pc.binary_join_element_wise(key, value, "")
            items.append(pc.if_else(pa.array(mask), item, ""))
        joined = pc.binary_join_element_wise(*items, "")
        texts = pc.utf8_slice_codeunits(joined, start=len(between))
        if not self._is_json and pc.any(pc.match_substring_regex(texts, '[,"\\r\\n]')).as_py():
            before = after = '"'
            texts = pc.replace_substring(texts, '"', '""')
        return pc.binary_join_element_wise(before, texts, after, "")


def event_figures(event: Event, first: int, asset: str | None = None) -> dict[str, Any]:
    """Return an event as the service tells it too, as plain data, with rows counted from 1.

    Parameters
    ----------
    event : Event
        The event.
    first : int
        Number of the machine's first row in the file, from 0.
    asset : str, optional
        The machine.
    """
    told = event.told(asset).model_dump(mode="json", exclude={"id", "sensor_id", "versions"})
    if asset is None:
        del told["asset_id"]
    for sensor in told["sensors"]:
        row = event.value_rows.get(sensor["name"])
        sensor["row"] = None if row is None else first + row + 1
    return told | {
        "began_row": None if event.began_row is None else first + event.began_row + 1,
        "duration_s": event.duration_s,
        "first_row": first + event.first + 1,
        "last_row": first + event.last + 1,
        "peak_row": first + event.peak + 1,
        "or_rarer": event.is_at_floor,
    }


def range_figures(sensors: Iterable[OutOfRange], asset: str | None = None) -> list[dict[str, Any]]:
    """Return the sensors outside their trained ranges as plain data."""
    whose = {} if asset is None else {"asset": asset}
    return [{**whose, **asdict(sensor)} for sensor in sensors]


def named(versions: Mapping[str, int | None]) -> list[str]:
    """Return the names of models with their versions, such as ``one_class_svm v3``."""
    return [f"{name} v{version}" if version else name for name, version in versions.items()]


def _csv_line(cells: Sequence[str], is_for_people: bool) -> str:
    if is_for_people:
        cells = list(map(cell_for_people, cells))
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
