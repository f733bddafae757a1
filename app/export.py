"""Every row that was judged, for other programs: CSV or JSON, written column by column.

Lines are put together by Arrow from whole columns, so that no row is ever an object of its own.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.detectors.base import Floats
from app.services.asset import STATES
from app.services.detector_service import Served
from app.services.stream import Part
from app.services.verdict import LEVELS, levels

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
    form : {'csv', 'json'}
        What to write.
    serving : mapping of str to Served
        The models that judge.
    first : int
        Rows of the file before the first one judged.
    """

    def __init__(
        self, out: BinaryIO, form: Literal["csv", "json"], serving: Mapping[str, Served], first: int
    ):
        self._out, self._is_json, self._first = out, form == "json", first
        self._separator = ""
        names = [*COLUMNS, *serving]
        if self._is_json:
            # Each name stands before its value: `{"row": 1, "final_score": 0.5, ...`
            self._before = [f'{", " if at else "{"}{json.dumps(n)}: ' for at, n in enumerate(names)]
            self._end, self._null = "}", "null"
            self._write(f'{{"versions": {json.dumps(versions(serving))}, "rows": [')
        else:
            self._before = ["," if at else "" for at in range(len(names))]
            self._end, self._null = "\r\n", ""
            self._write(_csv_line(names))

    def write(self, part: Part) -> None:
        """Write the rows of the next part."""
        if len(part) == 0:
            return
        judged, sensors = part.judged, part.examined.sensors.names
        odd = np.flatnonzero(judged.is_anomaly)
        leading = np.full(len(part), -1)
        leading[odd] = part.leading(odd)
        start = self._first + part.first + 1
        columns = [
            pc.cast(pa.array(np.arange(start, start + len(part))), pa.string()),
            self._scores(judged.combined),
            self._chosen(self._truths, judged.is_anomaly),
            self._chosen(self._texts(LEVELS), levels(judged.combined, judged.contamination)),
            self._chosen(self._texts(sensors), leading),
            self._chosen(self._texts(STATES), part.course.states),
            self._scores(judged.asset),
            self._imputed(part),
            self._frozen(part),
            *(self._scores(p_values) for p_values in judged.p_values.values()),
        ]
        pieces = [piece for pair in zip(self._before, columns, strict=True) for piece in pair]
        if self._is_json:
            pieces[0] = f", {pieces[0]}"
        _, offsets, text = pc.binary_join_element_wise(*pieces, self._end, "").buffers()
        size = int(np.frombuffer(offsets, dtype=np.int32)[len(part)])
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

    def _imputed(self, part: Part) -> Any:
        sensors = part.examined.sensors.names
        found = []
        for kind, mask in part.examined.masks.items():
            for column in np.flatnonzero(mask.any(axis=0)).tolist():
                text = f"{json.dumps(sensors[column])}: {json.dumps(kind)}"
                found.append((mask[:, column], text if self._is_json else sensors[column]))
        return self._listed([_where(mask, text) for mask, text in found], len(part))

    def _frozen(self, part: Part) -> Any:
        sensors, still = part.examined.sensors.names, part.examined.still
        found = []
        for column in np.flatnonzero(still.any(axis=0)).tolist():
            here, text = still[:, column], sensors[column]
            if self._is_json:
                held = pa.array(part.examined.held[:, column], mask=~here)
                text = pc.binary_join_element_wise(
                    f"{json.dumps(text)}: ", pc.cast(held, pa.string()), ""
                )
            found.append(_where(here, text))
        return self._listed(found, len(part))

    def _listed(self, columns: Sequence[Any], n_rows: int) -> Any:
        """Return a mapping as JSON, or its names with semicolons, from the columns that have it."""
        if not columns:
            return pa.repeat("{}" if self._is_json else "", n_rows)
        between = ", " if self._is_json else ";"
        listed = pc.binary_join_element_wise(*columns, between, null_handling="skip")
        if self._is_json:
            return pc.binary_join_element_wise("{", listed, "}", "")
        if any(character in name for name in listed.unique().to_pylist() for character in ',"\n'):
            quoted = pc.replace_substring(listed, '"', '""')
            return pc.binary_join_element_wise('"', quoted, '"', "")
        return listed


def versions(serving: Mapping[str, Served]) -> list[str]:
    """Return the models that judge, each with its version."""
    return [
        f"{name} v{served.version}" if served.version else name for name, served in serving.items()
    ]


def _where(mask: NDArray[np.bool_], text: Any) -> Any:
    """Return a text, or one for each row, where a mask is true; null elsewhere."""
    return pc.if_else(pa.array(mask), text, pa.scalar(None, pa.string()))


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
