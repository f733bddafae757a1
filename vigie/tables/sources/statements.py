"""Whether a query only reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vigie.errors import InvalidDataError


def one_select(query: str) -> str:
    """Return a query without the semicolon at its end, if it is one SELECT.

    This catches slips. That nothing is written is up to the connection, which is read-only: a
    WITH can hold a DELETE, and a SELECT can call a function.

    Raises
    ------
    InvalidDataError
        If it is several statements, or another one.
    """
    import sqlparse

    statements = [one for one in sqlparse.split(query, strip_semicolon=True) if _first_word(one)]
    if len(statements) != 1 or _first_word(statements[0]) not in ("SELECT", "WITH"):
        raise InvalidDataError(
            "The query is not one SELECT.",
            field="--query",
            remedy="It starts with SELECT or WITH, and holds one statement.",
        )
    return str(statements[0])


def _first_word(statement: str) -> str:
    """Return the first word in upper case; nothing if there are only comments."""
    from sqlparse import lexer
    from sqlparse.tokens import Comment, Punctuation, Whitespace

    tokenize: Any = lexer.tokenize
    tokens: Iterable[tuple[Any, str]] = tokenize(statement)
    aside = (Comment, Whitespace, Punctuation)
    words = (word for kind, word in tokens if not any(kind in one for one in aside))
    return next(words, "").upper()
