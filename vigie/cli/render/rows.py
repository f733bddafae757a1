"""Every row that was judged, for other programs: CSV or JSON, written column by column.

Lines are put together by Arrow from whole columns, so that no row is ever an object of its own.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vigie.assessment.assessment import LEVELS, Assessment
from vigie.assessment.status import STATES
from vigie.assessment.stream import Part
from vigie.detectors.base import Floats

COLUMNS = ("row", "final_score", "is_anomaly", "criticality", "sensor", "state", "evidence",
           "imputed", "frozen")  # fmt: skip
"""What stands before the scores of the models."""


class Writer:
    """Write rows to a stream of bytes, part by part.

    JSON is one document with ``versions`` and ``rows``; CSV is a line a row under a header.

    Parameters
    ----------
    out : binary file
        Where to write.
    is_json : bool
        Whether to write JSON; else CSV.
    versions : mapping of str to int or None
        The models that are asked, each with its version.
    first : int
        Rows of the file before the first one judged.
    """

    def __init__(
        self, out: BinaryIO, is_json: bool, versions: Mapping[str, int | None], first: int
    ):
        self._out, self._is_json, self._first = out, is_json, first
        names = [*COLUMNS, *versions]
        if self._is_json:
            # Each name stands before its value: `{"row": 1, "final_score": 0.5, ...`
            self._before = [f"{', ' if at else '{'}{json.dumps(n)}: " for at, n in enumerate(names)]
            self._end, self._null = "}", "null"
            self._write(f'{{"versions": {json.dumps(named(versions))}, "rows": [')
        else:
            self._before = ["," if at else "" for at in range(len(names))]
            self._end, self._null = "\r\n", ""
            self._write(_csv_line(names))

    def write(self, part: Part) -> None:
        """Write the rows of the next part."""
        said, n_rows = part.assessment, len(part.assessment)
        if n_rows == 0:
            return
        anomalous, leading = np.flatnonzero(said.is_anomaly), np.full(n_rows, -1)
        leading[anomalous] = said.leading(anomalous)
        start = self._first + part.first + 1
        columns = [
            pc.cast(pa.array(np.arange(start, start + n_rows)), pa.string()),
            self._scores(said.p_values),
            self._chosen(self._truths, said.is_anomaly),
            self._chosen(self._texts(LEVELS), said.levels),
            self._chosen(self._texts(said.rows.sensors.names), leading),
            self._chosen(self._texts(STATES), said.statuses.states),
            self._scores(said.asset_p_values),
            self._imputed(said),
            self._frozen(said),
            *(self._scores(p_values) for p_values in said.scores.p_values.values()),
        ]
        pieces = [piece for pair in zip(self._before, columns, strict=True) for piece in pair]
        if self._is_json:
            pieces[0] = f", {pieces[0]}"
        _, offsets, text = pc.binary_join_element_wise(*pieces, self._end, "").buffers()
        size = int(np.frombuffer(offsets, dtype=np.int32)[n_rows])
        # Between rows of JSON stands a comma, before the first one none.
        skipped = 2 if self._is_json and part.first == 0 else 0
        self._out.write(memoryview(text)[skipped:size])

    def close(self) -> None:
        """Write what ends the document."""
        if self._is_json:
            self._write("]}\n")
        self._out.flush()

    def _write(self, text: str) -> None:
        self._out.write(text.encode())

    @property
    def _truths(self) -> list[str]:
        return ["false", "true"] if self._is_json else ["False", "True"]

    def _texts(self, texts: Sequence[str]) -> list[str]:
        return [json.dumps(t) if self._is_json else _csv_line([t])[:-2] for t in texts]

    def _scores(self, p_values: Floats) -> Any:
        """Return ``1 - p``, or null where there is no p-value."""
        scores = pa.array(1.0 - p_values, mask=np.isnan(p_values))
        return pc.fill_null(pc.cast(scores, pa.string()), self._null)

    def _chosen(self, texts: Sequence[str], places: NDArray[Any]) -> Any:
        """Return one of some texts for each row; null at place -1."""
        found = pa.array(places.astype(np.int64), mask=places < 0)
        return pc.fill_null(pa.array(texts, pa.string()).take(found), self._null)

    def _imputed(self, said: Assessment) -> Any:
        sensors = said.rows.sensors.names
        cells = []
        for kind, mask in said.rows.masks.items():
            for column in np.flatnonzero(mask.any(axis=0)).tolist():
                value = json.dumps(kind) if self._is_json else ""
                cells.append((mask[:, column], sensors[column], value))
        return self._listed(cells, len(said))

    def _frozen(self, said: Assessment) -> Any:
        sensors = said.rows.sensors.names
        cells = []
        for column in np.flatnonzero(said.frozen.any(axis=0)).tolist():
            held = pc.cast(pa.array(said.held[:, column]), pa.string())
            value = held if self._is_json else ""
            cells.append((said.frozen[:, column], sensors[column], value))
        return self._listed(cells, len(said))

    def _listed(self, found: Sequence[tuple[NDArray[np.bool_], str, Any]], n_rows: int) -> Any:
        """Return a mapping as JSON, or its names with semicolons, from where each name has a value.

        ``found`` has the rows, the name, and its value: one text, or one for each row.
        """
        before, between, after = ("{", ", ", "}") if self._is_json else ("", ";", "")
        items = [pa.repeat("", n_rows)]
        for mask, name, value in found:
            key = f"{between}{json.dumps(name)}: " if self._is_json else f"{between}{name}"
            item = pc.binary_join_element_wise(key, value, "")
            items.append(pc.if_else(pa.array(mask), item, ""))
        joined = pc.binary_join_element_wise(*items, "")
        listed = pc.utf8_slice_codeunits(joined, start=len(between))
        if not self._is_json and any(re.search('[,"\\r\\n]', name) for _, name, _ in found):
            before = after = '"'
            listed = pc.replace_substring(listed, '"', '""')
        return pc.binary_join_element_wise(before, listed, after, "")


def named(versions: Mapping[str, int | None]) -> list[str]:
    """Return models, each with its version, as text."""
    return [f"{name} v{version}" if version else name for name, version in versions.items()]


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
