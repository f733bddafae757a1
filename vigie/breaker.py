"""A circuit breaker: what has failed is left alone for a moment.

A server that does not answer costs whoever asks it its whole patience. So the first failure opens
the circuit, and until that closes again everybody else fails at once, with the same error.

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
    """Remember a failure for a while, and count what it costs.

    Safe to be used from several threads at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: E | None = None
        self._until = 0.0
        self._n_failed = 0

    def check(self) -> None:
        """Return if the circuit is closed; else raise what opened it."""
        if (error := self._error) is not None and self.is_open:
            raise error.with_traceback(None)

    @property
    def is_open(self) -> bool:
        """Whether everybody fails at once now."""
        return self._error is not None and time.monotonic() < self._until

    def open(self, error: E, for_s: float) -> None:
        """Let everybody fail with this error for so long, from now on."""
        if error is not self._error:
            self._error, self._until = error, time.monotonic() + for_s

    def count(self, n_failed: int = 1) -> bool:
        """Count failures; return whether these are the first since ``recovered``."""
        with self._lock:
            is_first, self._n_failed = self._n_failed == 0, self._n_failed + n_failed
        return is_first

    def recovered(self) -> int:
        """Close the circuit, and return how many failures were counted."""
        self._error = None
        if not self._n_failed:
            return 0
        with self._lock:
            n_failed, self._n_failed = self._n_failed, 0
        return n_failed
