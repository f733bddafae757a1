"""Revisions of the history's tables, for Alembic; ``vigie.history.schema`` runs them."""
