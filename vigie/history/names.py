"""The numbers that stand for assets and layouts in the readings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from vigie.history.packed import MOST_LAYOUTS, Layout, layout_from, unpack
from vigie.history.records import Reading, time_of

Row = tuple[int, int, int, bytes]
"""When it was measured, the layout, the level, and the packed rest."""
NAME_STATEMENTS = {
    "asset": "SELECT id FROM assets WHERE asset_id = :asset_id AND sensor_id = :sensor_id",
    "new asset": "INSERT INTO assets (asset_id, sensor_id) VALUES (:asset_id, :sensor_id) "
    "ON CONFLICT (asset_id, sensor_id) DO NOTHING",
    "layout": "SELECT id FROM layouts WHERE digest = :digest",
    "new layout": "INSERT INTO layouts (digest, description) VALUES (:digest, :description) "
    "ON CONFLICT (digest) DO NOTHING",
    "description": "SELECT description FROM layouts WHERE id = :id",
}


class Names:
    """What the numbers of assets and layouts stand for; nothing is ever deleted.

    Parameters
    ----------
    statements : mapping of str to str
        ``NAME_STATEMENTS``, as the driver takes them.
    another : callable or None
        Opens a transaction of its own for new numbers, so that two transactions never wait for
        each other's in a circle. None to add them in the transaction that needs them: in SQLite,
        which has one writer.
    """

    def __init__(
        self,
        statements: Mapping[str, str],
        another: Callable[[], AbstractContextManager[Any]] | None,
    ):
        self._statements, self._another = statements, another
        self._ids: dict[str, int] = {}
        self._layouts: dict[int, Layout] = {}

    def forget(self) -> None:
        """Forget the numbers of layouts: a transaction that may have added some was rolled back."""
        self._ids.clear()
        self._layouts.clear()

    def asset(self, cursor: Any, asset_id: str, sensor_id: str | None) -> int | None:
        """Return the number of an asset and sensor group; None if it has no readings."""
        # Not cached: a wrong number, after a backup was restored, would mix two assets.
        named = {"asset_id": asset_id, "sensor_id": sensor_id or ""}
        number: int | None = _scalar(cursor, self._statements["asset"], named)
        return number

    def new_asset(self, cursor: Any, asset_id: str, sensor_id: str | None) -> int:
        """Return the number of an asset and sensor group that may not have one yet."""
        # It may be the first one of a database that was emptied.
        self.forget()
        named = {"asset_id": asset_id, "sensor_id": sensor_id or ""}
        return self._number(cursor, "asset", named)

    def layout(self, cursor: Any, sent: Layout) -> tuple[int, Layout]:
        """Return the number of a layout, and the layout in the order in which it came first."""
        if (known := self._ids.get(sent.digest)) is None:
            described = {"digest": sent.digest, "description": sent.text}
            known = self._number(cursor, "layout", described)
        return known, self.layouts(cursor, (known,))[known]

    def layouts(self, cursor: Any, ids: Collection[int]) -> dict[int, Layout]:
        """Return layouts by their numbers."""
        found = {}
        for number in ids:
            if (layout := self._layouts.get(number)) is None:
                text = _scalar(cursor, self._statements["description"], {"id": number})
                layout = layout_from(text)
                if len(self._layouts) >= MOST_LAYOUTS:
                    self.forget()
                self._ids[layout.digest], self._layouts[number] = number, layout
            found[number] = layout
        return found

    def readings(
        self, cursor: Any, asset_id: str, sensor_id: str | None, rows: Sequence[Row]
    ) -> list[Reading]:
        """Return the readings of rows of an asset."""
        layouts = self.layouts(cursor, {row[1] for row in rows})
        return [as_reading(asset_id, sensor_id, row, layouts[row[1]]) for row in rows]

    def _number(self, cursor: Any, kind: str, values: Mapping[str, str]) -> int:
        """Return the number of an asset or a layout; add it if it has none."""
        if self._another is None:
            return self._found_or_added(cursor, kind, values)
        with self._another() as other:
            return self._found_or_added(other, kind, values)

    def _found_or_added(self, cursor: Any, kind: str, values: Mapping[str, str]) -> int:
        while (number := _scalar(cursor, self._statements[kind], values)) is None:
            cursor.execute(self._statements[f"new {kind}"], values)
        return int(number)


def as_reading(asset_id: str, sensor_id: str | None, row: Row, layout: Layout) -> Reading:
    """Return the reading of a row."""
    measured_us, _, level, packed = row
    features, assessed = unpack(layout, level, packed)
    return Reading(asset_id, sensor_id, time_of(measured_us), features, assessed, layout.conditions)


def _scalar(cursor: Any, statement: str, values: Mapping[str, Any]) -> Any:
    cursor.execute(statement, values)
    row = cursor.fetchone()
    return row and row[0]
