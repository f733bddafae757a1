"""Create the table of readings and their results."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the table of readings."""
    op.create_table(
        "readings",
        # SQLite assigns keys automatically only in an INTEGER column.
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("asset_id", sa.String(200), nullable=False),
        sa.Column("sensor_id", sa.String(200), nullable=False),
        sa.Column("measured_us", sa.BigInteger, nullable=False),
        sa.Column("features", sa.JSON, nullable=False),
        sa.Column("result", sa.JSON, nullable=False),
    )
    by_asset = ["asset_id", "sensor_id", "measured_us", "id"]
    op.create_index("readings_by_asset", "readings", by_asset)
