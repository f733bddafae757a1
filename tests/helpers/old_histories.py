"""Histories as earlier versions of Vigie have made them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    insert,
)

START_US = 1_767_600_000_000_000
"""2026-01-05 08:00 UTC."""


def _first(metadata: MetaData) -> Table:
    """Return the table of the first version."""
    return Table(
        "readings", metadata, *_columns(),
        Index("readings_by_asset", "asset_id", "sensor_id", "measured_us", "id"),
    )  # fmt: skip


def _before_revisions(metadata: MetaData) -> Table:
    """Return the last table in whose database no revision was noted."""
    return Table(
        "readings", metadata, *_columns(),
        UniqueConstraint("asset_id", "sensor_id", "measured_us", name="one_reading_at_a_time"),
    )  # fmt: skip


def _columns() -> list[Column[Any]]:
    return [
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("asset_id", String(200), nullable=False),
        Column("sensor_id", String(200), nullable=False),
        Column("measured_us", BigInteger, nullable=False),
        Column("features", JSON, nullable=False),
        Column("result", JSON, nullable=False),
    ]


LAYOUTS: dict[str, Callable[[MetaData], Table]] = {
    "first": _first,
    "before revisions": _before_revisions,
}


def make(url: str, layout: str, features: list[dict[str, float]]) -> None:
    """Make a history with readings of two assets, one a second.

    The first layout kept a reading that was sent again beside the first: there, each of the pump's
    stands once more before the right one.
    """
    engine, metadata = create_engine(url), MetaData()
    readings = LAYOUTS[layout](metadata)
    metadata.create_all(engine)
    wrong = [dict.fromkeys(row, -1.0) for row in features]
    kept = [("fan", "left", features)] + [("pump", "", wrong)] * (layout == "first")
    rows = [
        {
            "asset_id": asset_id,
            "sensor_id": sensor_id,
            "measured_us": START_US + 1_000_000 * second,
            "features": row,
            "result": {"final_score": 0.5, "is_anomaly": False},
        }
        for asset_id, sensor_id, its_rows in [*kept, ("pump", "", features)]
        for second, row in enumerate(its_rows)
    ]
    with engine.begin() as connection:
        connection.execute(insert(readings), rows)
    engine.dispose()
