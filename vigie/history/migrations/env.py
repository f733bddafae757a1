"""Alembic's environment: run the revisions in the caller's transaction."""

from alembic import context

from vigie.history.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
