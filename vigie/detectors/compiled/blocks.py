"""Process many rows in blocks, on all cores available to the process."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_blocks(work: Callable[[int, int], None], n: int, size: int) -> None:
    """Call ``work(start, stop)`` for consecutive blocks of up to ``size`` of ``n`` rows.

    A single block runs in the calling thread. Several are distributed over threads shared by all
    callers; the calling thread works too, so it never waits for a busy thread.
    """
    if n <= size:
        if n:
            work(0, n)
        return
    starts = iter(range(0, n, size))

    def process_blocks() -> None:
        for start in starts:
            work(start, min(start + size, n))

    try:
        helpers = [_threads().submit(process_blocks) for _ in range(min(CORES, -(-n // size)) - 1)]
    except RuntimeError:
        # The pool refuses work at interpreter shutdown, when exit handlers may still score.
        helpers = []
    try:
        process_blocks()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(CORES - 1, 1), thread_name_prefix="kernels")


# A forked process inherits the pool, but not its threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)
