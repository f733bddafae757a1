"""Revisions of the history's tables, for Alembic; ``app.history.schema`` runs them."""
