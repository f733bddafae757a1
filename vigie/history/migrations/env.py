"""What Alembic runs: the revisions, on a connection and in the transaction of whoever asks."""

from alembic import context

from vigie.history.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
