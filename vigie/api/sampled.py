"""Values from a database or a disk, with a limit on the wait for them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from vigie.errors import VigieError

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Sampled(Generic[T]):
    """Get a value in a thread, so that a caller can stop waiting for it.

    Parameters
    ----------
    get : callable
        Returns the value. If it raises an error, or has not returned yet, there is none.
    every_s : float
        Least time between two calls, in seconds, unless the last one failed.
    """

    def __init__(self, get: Callable[[], T], every_s: float = 0.0):
        self._get, self._every_s = get, every_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._began = float("-inf")
        self._value: T | None = None
        self.has_failed = False

    def begin(self) -> None:
        """Get the value anew if that is due; do not wait."""
        with self._lock:
            now = time.monotonic()
            is_running = self._thread is not None and self._thread.is_alive()
            is_fresh = now - self._began < self._every_s and not self.has_failed
            if is_running or is_fresh:
                return
            self._began = now
            self._thread = threading.Thread(target=self._run, name="sample", daemon=True)
            self._thread.start()

    def value(self, within_s: float) -> T | None:
        """Return the value; None if there is none within this time."""
        with self._lock:
            thread = self._thread
        if thread is None:
            return None
        thread.join(max(within_s, 0.0))
        return None if thread.is_alive() else self._value

    def _run(self) -> None:
        try:
            self._value, self.has_failed = self._get(), False
        except (VigieError, OSError) as error:
            logger.debug("There is no value: %s", error)
            self._value, self.has_failed = None, True
