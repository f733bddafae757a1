"""A reading that is sent again takes the place of the first."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Keep the last of several readings with one time, and let there be no more of them."""
    op.execute(
        "DELETE FROM readings WHERE id NOT IN "
        "(SELECT max(id) FROM readings GROUP BY asset_id, sensor_id, measured_us)"
    )
    op.drop_index("readings_by_asset", "readings")
    # SQLite knows no other way to add a constraint than to make the table anew.
    with op.batch_alter_table("readings") as table:
        table.create_unique_constraint(
            "one_reading_at_a_time", ["asset_id", "sensor_id", "measured_us"]
        )
