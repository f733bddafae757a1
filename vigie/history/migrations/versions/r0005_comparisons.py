"""Create the table of comparisons of versions."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table of counts; of each pair of versions, one row a count."""
    op.create_table(
        "version_comparisons",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("champion", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("champion_run", sa.Text, primary_key=True),
        sa.Column("challenger", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("challenger_run", sa.Text, primary_key=True),
        sa.Column("counted", sa.Text, primary_key=True),
        sa.Column("total", sa.Double, nullable=False),
        sa.Column("first_us", sa.BigInteger, nullable=False),
        sa.Column("last_us", sa.BigInteger, nullable=False),
    )
