"""Work on many rows, block by block, on all cores that the process may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_blocks(work: Callable[[int, int], None], n: int, size: int) -> None:
    """Call ``work(start, stop)`` for consecutive blocks of up to ``size`` of ``n`` rows.

    One block is worked on where it is asked for. Of several, the threads that all callers share
    take one after the other; the caller takes its part, so it never waits for a busy one.
    """
    if n <= size:
        if n:
            work(0, n)
        return
    starts = iter(range(0, n, size))

    def take_turns() -> None:
        for start in starts:
            work(start, min(start + size, n))

    try:
        helpers = [_threads().submit(take_turns) for _ in range(min(CORES, -(-n // size)) - 1)]
    except RuntimeError:
        # No thread takes on anything once the interpreter ends; what is scored then, by whoever
        # asked to be called at its end, is scored without help.
        helpers = []
    try:
        take_turns()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(CORES - 1, 1), thread_name_prefix="kernels")


# A forked process has the object, but not the threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)
