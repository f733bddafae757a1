"""Let a reading that is sent again replace the first one."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Delete all but the last reading of each time, and add the unique constraint."""
    op.execute(
        "DELETE FROM readings WHERE id NOT IN "
        "(SELECT max(id) FROM readings GROUP BY asset_id, sensor_id, measured_us)"
    )
    op.drop_index("readings_by_asset", "readings")
    # SQLite can add a constraint only by a copy of the table.
    with op.batch_alter_table("readings") as table:
        table.create_unique_constraint(
            "one_reading_at_a_time", ["asset_id", "sensor_id", "measured_us"]
        )
