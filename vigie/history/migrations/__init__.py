"""Alembic revisions of the history's tables; ``vigie.history.schema`` runs them."""
