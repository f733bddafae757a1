"""Python's search for garbage, in processes that are Vigie's own."""

from __future__ import annotations

import atexit
import gc

OBJECTS_PER_SEARCH = 50_000


def search_rarely() -> None:
    """Search for garbage more rarely than by default, and not at the exit.

    To import MLflow and scikit-learn makes a million objects and no garbage, yet by default Python
    searches them every 700 objects, and all of them again at the exit: a third of the time of a
    short command. A program that uses Vigie as a library keeps its own thresholds.
    """
    gc.set_threshold(OBJECTS_PER_SEARCH)
    atexit.register(gc.freeze)
