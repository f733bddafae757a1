"""A connection to PostgreSQL that does not wait for ever.

A server that is frozen, or behind a network that has gone, answers nothing, and the kernel sees no
fault in it: what has been sent is acknowledged. Only whoever waits for the answer can tell.
"""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

ANSWERS_WITHIN_S = 10.0
"""How long PostgreSQL may take for a statement, the turns of others before ours included."""

T = TypeVar("T")


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is given up where an answer does not come in time.

    Attributes
    ----------
    patience_s : float or None
        How long a statement may take; None for as long as it takes.
    """

    patience_s: float | None = ANSWERS_WITHIN_S

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for an answer.

        Raises
        ------
        psycopg.OperationalError
            If none comes in time; the connection is closed then, for its state is unknown.
        """
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            self.close()
            raise psycopg.OperationalError(
                f"PostgreSQL has not answered for {self.patience_s:.0f} s"
            ) from error
