"""What is sent by other threads, and waited for before the program ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any

_threads = ThreadPoolExecutor(thread_name_prefix="vigie-upload")
_pending: dict[Future[Any], str] = {}


def submit(function: Callable[..., None], *arguments: Any) -> None:
    """Have something done that nobody waits for."""
    _threads.submit(function, *arguments)


def send(what: str, function: Callable[..., None], *arguments: Any) -> Future[None]:
    """Have something sent, in the caller's context; ``what`` is its name while it is pending."""
    upload = _threads.submit(copy_context().run, function, *arguments)
    _pending[upload] = what
    upload.add_done_callback(lambda done: _pending.pop(done, None))
    return upload


def pending() -> list[str]:
    """Return the names of what is still on its way."""
    return list(_pending.values())


def flush(timeout: float | None = None) -> bool:
    """Wait until nothing is on its way any more; return whether that came within so many seconds.

    What has failed has been logged, and is not on its way.
    """
    return not wait(list(_pending), timeout).not_done


def _finish() -> None:
    while _pending:
        wait(list(_pending))


# Before the interpreter joins threads: by then it starts no others, which drawing figures and
# uploading take. There is no public way to be asked that early (python/cpython#86813).
threading._register_atexit(_finish)  # type: ignore[attr-defined]
