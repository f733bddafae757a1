"""Background threads for uploads; the program waits for these before it exits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any

_threads = ThreadPoolExecutor(thread_name_prefix="vigie-upload")
_pending: dict[Future[Any], str] = {}


def submit(function: Callable[..., None], *arguments: Any) -> None:
    """Run a function in the background; the program does not wait for it."""
    _threads.submit(function, *arguments)


def send(what: str, function: Callable[..., None], *arguments: Any) -> Future[None]:
    """Run an upload in the background, in the caller's context; ``pending`` lists ``what``."""
    upload = _threads.submit(copy_context().run, function, *arguments)
    _pending[upload] = what
    upload.add_done_callback(lambda done: _pending.pop(done, None))
    return upload


def pending() -> list[str]:
    """Return the names of the unfinished uploads."""
    return list(_pending.values())


def flush(timeout: float | None = None) -> bool:
    """Wait up to ``timeout`` seconds until all uploads have finished; return whether they have.

    Failed uploads have been logged, and count as finished.
    """
    return not wait(list(_pending), timeout).not_done


def _finish() -> None:
    while _pending:
        wait(list(_pending))


# Must run before the interpreter joins its threads: after that it starts no new ones, which figures
# and uploads need. There is no public hook that early (python/cpython#86813).
threading._register_atexit(_finish)  # type: ignore[attr-defined]
