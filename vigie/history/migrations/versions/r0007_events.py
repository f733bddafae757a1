"""Create the tables of events and of the states of assets."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create both; of an asset and kind, one event is open at most."""
    op.create_table(
        "asset_events",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("asset_id", sa.Text, nullable=False),
        sa.Column("sensor_id", sa.Text, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("start_us", sa.BigInteger, nullable=False),
        sa.Column("began_us", sa.BigInteger),
        sa.Column("peak_us", sa.BigInteger, nullable=False),
        sa.Column("peak_p", sa.Double, nullable=False),
        sa.Column("reading_p", sa.Double, nullable=False),
        sa.Column("criticality", sa.String(16)),
        sa.Column("last_us", sa.BigInteger, nullable=False),
        sa.Column("end_us", sa.BigInteger),
        sa.Column("n_readings", sa.BigInteger, nullable=False),
        sa.Column("n_anomalies", sa.BigInteger, nullable=False),
        sa.Column("sensors", sa.Text, nullable=False),
        sa.Column("versions", sa.Text, nullable=False),
    )
    op.create_index("asset_events_by_start", "asset_events", ["start_us", "id"])
    op.create_index("asset_events_of_asset", "asset_events", ["asset_id", "start_us"])
    is_open = sa.text("end_us IS NULL")
    op.create_index(
        "open_asset_events",
        "asset_events",
        ["asset_id", "sensor_id", "kind"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_table(
        "asset_states",
        sa.Column("asset_id", sa.Text, primary_key=True),
        sa.Column("sensor_id", sa.Text, primary_key=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sa.Column("seen_us", sa.BigInteger, nullable=False),
        sa.Column("received_us", sa.BigInteger, nullable=False),
        sa.Column("p_value", sa.Double),
        sa.Column("quality", sa.String(16), nullable=False),
        sa.Column("faults", sa.Text, nullable=False),
    )
