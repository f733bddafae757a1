"""Create the table of alerts, which are told to somebody."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create it; those that wait have an index."""
    op.create_table(
        "alarm_alerts",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("alarm_id", sa.String(32), nullable=False),
        sa.Column("change", sa.String(32), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("by_whom", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("due_us", sa.BigInteger, nullable=False),
        sa.Column("leased_until_us", sa.BigInteger, nullable=False),
        sa.Column("message_id", sa.String(32)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
    )
    is_waiting = sa.text("state = 'waiting'")
    op.create_index(
        "alarm_alerts_waiting",
        "alarm_alerts",
        ["channel", "due_us"],
        sqlite_where=is_waiting,
        postgresql_where=is_waiting,
    )
    op.create_index("alerts_of_alarm", "alarm_alerts", ["alarm_id"])
    op.create_index("alarm_alerts_by_time", "alarm_alerts", ["at_us", "id"])
