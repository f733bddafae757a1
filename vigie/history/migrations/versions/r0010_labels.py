"""Create the table of labels: what people say of events."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create it; of an event, one label is not replaced at most."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "event_labels",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.String(32), nullable=False),
        sa.Column("label", sa.String(16), nullable=False),
        sa.Column("cause", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("by_whom", sa.Text),
        sa.Column("replaced_us", sa.BigInteger),
    )
    op.create_index("labels_of_event", "event_labels", ["event_id", "number"])
    is_current = sa.text("replaced_us IS NULL")
    op.create_index(
        "current_event_labels",
        "event_labels",
        ["event_id"],
        unique=True,
        sqlite_where=is_current,
        postgresql_where=is_current,
    )
