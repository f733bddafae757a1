"""Store readings as packed bytes, with numbers for assets and layouts, in a third of the space."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from vigie.history.packed import Layout, layout_of, level_of, pack
from vigie.history.records import Assessed, Reading, Standing, time_of
from vigie.models.anomaly_data import AssetState

revision = "0006"
down_revision = "0005"

PORTION = 5000
"""Readings in memory at once."""
COLUMNS = ("id", "measured_us", "asset", "layout", "level", "packed")
OLD = sa.text(
    "SELECT id, asset_id, sensor_id, measured_us, CAST(features AS TEXT), CAST(result AS TEXT) "
    "FROM readings_in_json WHERE id > :after ORDER BY id LIMIT :n"
)


def upgrade() -> None:
    """Create the tables, and pack what there is; ids stay, and with them what replicas know."""
    op.rename_table("readings", "readings_in_json")
    op.create_table(
        "assets",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("asset_id", sa.String(200), nullable=False),
        sa.Column("sensor_id", sa.String(200), nullable=False),
        sa.UniqueConstraint("asset_id", "sensor_id", name="one_number_of_an_asset"),
    )
    op.create_table(
        "layouts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.UniqueConstraint("digest", name="one_number_of_a_layout"),
    )
    # SQLite assigns ids only where they are the key. PostgreSQL needs no index of them.
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    ids = sa.Column("id", sa.Integer, primary_key=True)
    if not is_sqlite:
        ids = sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False)
    one = sa.UniqueConstraint if is_sqlite else sa.PrimaryKeyConstraint
    # In this order, PostgreSQL needs no padding between them.
    op.create_table(
        "readings",
        ids,
        sa.Column("measured_us", sa.BigInteger, nullable=False),
        sa.Column("asset", sa.Integer, nullable=False),
        sa.Column("layout", sa.Integer, nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("packed", sa.LargeBinary, nullable=False),
        one("asset", "measured_us", name="one_reading_of_a_time"),
    )
    _pack_all()
    op.drop_table("readings_in_json")
    anomalous = sa.text("level > 0")
    op.create_index(
        "anomalous_readings",
        "readings",
        ["asset", "measured_us"],
        sqlite_where=anomalous,
        postgresql_where=anomalous,
    )


def _pack_all() -> None:
    bind, readings = op.get_bind(), sa.table("readings", *map(sa.column, COLUMNS))
    assets, layouts, last = _Numbers("assets"), _Numbers("layouts"), 0
    first: dict[str, Layout] = {}
    while rows := bind.execute(OLD, {"after": last, "n": PORTION}).all():
        packed = []
        for row in rows:
            reading = _reading(*row[1:])
            layout = layout_of(reading)
            layout = first.setdefault(layout.digest, layout)
            asset = {"asset_id": reading.asset_id, "sensor_id": reading.sensor_id or ""}
            described = {"digest": layout.digest, "description": layout.text}
            values = (
                row.id,
                row.measured_us,
                assets.of(bind, asset, tuple(asset.values())),
                layouts.of(bind, described, layout.digest),
                level_of(reading.assessed),
                pack(layout, reading.features, reading.assessed),
            )
            packed.append(dict(zip(COLUMNS, values, strict=True)))
        bind.execute(readings.insert(), packed)
        last = rows[-1][0]
    if bind.dialect.name == "postgresql" and last:
        for name in ("readings", "assets", "layouts"):
            sequence = f"pg_get_serial_sequence('{name}', 'id')"
            bind.execute(sa.text(f"SELECT setval({sequence}, (SELECT max(id) FROM {name}))"))


class _Numbers:
    """The numbers of the rows of a table, which are added as they are needed."""

    def __init__(self, table: str):
        self._table, self._ids = table, dict[Any, int]()

    def of(self, bind: sa.Connection, row: Mapping[str, str], key: Any) -> int:
        if key not in self._ids:
            table = sa.table(self._table, sa.column("id"), *map(sa.column, row))
            self._ids[key] = len(self._ids) + 1
            bind.execute(table.insert(), {"id": self._ids[key], **row})
        return self._ids[key]


def _reading(
    asset_id: str, sensor_id: str, measured_us: int, features: str, result: str
) -> Reading:
    """Return a reading of the former table."""
    values = {
        name: float(value) if type(value) is int else value
        for name, value in json.loads(features).items()
    }
    # Sensors give numbers only.
    context = frozenset(name for name, value in values.items() if isinstance(value, bool | str))
    return Reading(
        asset_id, sensor_id or None, time_of(measured_us), values, _assessed(result), context
    )


def _assessed(result: str) -> Assessed:
    known = json.loads(result)
    if (state := known.get("state")) is not None:
        known["state"] = AssetState(state)
    if (went_on := known.get("went_on_from")) is not None:
        known["went_on_from"] = Standing(
            **went_on | {"state": went_on["state"] and AssetState(went_on["state"])}
        )
    return Assessed(**known)
