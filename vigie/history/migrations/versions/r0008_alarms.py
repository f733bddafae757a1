"""Create the tables of alarms, of what changed on them, and of assets whose alarms are silent."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create all three; of an asset and kind, one alarm is not cleared at most."""
    op.create_table(
        "asset_alarms",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("event_id", sa.String(32), nullable=False),
        sa.Column("asset_id", sa.Text, nullable=False),
        sa.Column("sensor_id", sa.Text, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("start_us", sa.BigInteger, nullable=False),
        sa.Column("raised_us", sa.BigInteger, nullable=False),
        sa.Column("due_us", sa.BigInteger),
        sa.Column("cleared_us", sa.BigInteger),
        sa.Column("is_told", sa.Boolean, nullable=False),
        sa.Column("acknowledged_us", sa.BigInteger),
        sa.Column("acknowledged_by", sa.Text),
        sa.Column("note", sa.Text),
    )
    op.create_index("asset_alarms_by_time", "asset_alarms", ["raised_us", "id"])
    is_live = sa.text("state <> 'cleared'")
    op.create_index(
        "live_asset_alarms",
        "asset_alarms",
        ["asset_id", "sensor_id", "kind"],
        unique=True,
        sqlite_where=is_live,
        postgresql_where=is_live,
    )
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "alarm_changes",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("alarm_id", sa.String(32), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("change", sa.String(32), nullable=False),
        sa.Column("by_whom", sa.Text),
        sa.Column("note", sa.Text),
    )
    op.create_index("changes_of_alarm", "alarm_changes", ["alarm_id", "number"])
    op.create_table(
        "asset_pauses",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("silence", sa.String(16), nullable=False),
        sa.Column("asset_id", sa.Text, nullable=False),
        sa.Column("sensor_id", sa.Text, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("from_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by_whom", sa.Text),
        sa.Column("ended_us", sa.BigInteger),
        sa.Column("ended_by", sa.Text),
    )
    is_going_on = sa.text("ended_us IS NULL")
    op.create_index(
        "asset_pauses_now",
        "asset_pauses",
        ["silence", "asset_id", "sensor_id", "kind"],
        unique=True,
        sqlite_where=is_going_on,
        postgresql_where=is_going_on,
    )
