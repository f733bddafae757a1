"""A connection to PostgreSQL with a client-side timeout for each statement.

If the server hangs, or the network behind a proxy fails, no answer arrives although the kernel
sees its packets acknowledged. Only a timeout of the client detects this.
"""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

STATEMENT_TIMEOUT_S = 10.0
"""Timeout of a statement, including the time it waits for locks, in seconds."""

T = TypeVar("T")


class PatientConnection(psycopg.Connection[Any]):
    """A connection that closes if an answer does not arrive in time.

    Attributes
    ----------
    patience_s : float or None
        Timeout of a statement, in seconds; None for no timeout.
    """

    patience_s: float | None = STATEMENT_TIMEOUT_S

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for an answer.

        Raises
        ------
        psycopg.OperationalError
            If none arrives in time; the connection is then closed, since its state is unknown.
        """
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            self.close()
            raise psycopg.OperationalError(
                f"PostgreSQL has not answered for {self.patience_s:.0f} s"
            ) from error
