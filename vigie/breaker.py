"""A circuit breaker: after a failure, calls fail fast for a while.

Each call to a server that does not answer costs a full timeout. The first failure opens the
circuit; until it closes again, all other calls fail at once with the same error.

References
----------
Nygard, M. T. (2018). Release It!, 2nd ed. Pragmatic Bookshelf. Chapter 5, "Circuit Breaker".
"""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

E = TypeVar("E", bound=Exception)


class CircuitBreaker(Generic[E]):
    """Remember a failure for a while, and count the calls that it fails.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: E | None = None
        self._until = 0.0
        self._n_failed = 0

    def check(self) -> None:
        """Raise the error that opened the circuit, if it is open."""
        if (error := self._error) is not None and self.is_open:
            raise error.with_traceback(None)

    @property
    def is_open(self) -> bool:
        """Whether calls fail at once."""
        return self._error is not None and time.monotonic() < self._until

    @property
    def is_failing(self) -> bool:
        """Whether calls have failed since ``recovered``."""
        return self._n_failed > 0

    def open(self, error: E, for_s: float) -> None:
        """Open the circuit: fail all calls with this error for ``for_s`` seconds."""
        if error is not self._error:
            self._error, self._until = error, time.monotonic() + for_s

    def count(self, n_failed: int = 1) -> bool:
        """Count failed calls; return whether these are the first since ``recovered``."""
        with self._lock:
            is_first, self._n_failed = self._n_failed == 0, self._n_failed + n_failed
        return is_first

    def recovered(self) -> int:
        """Close the circuit, and return the number of failed calls."""
        self._error = None
        if not self._n_failed:
            return 0
        with self._lock:
            n_failed, self._n_failed = self._n_failed, 0
        return n_failed
