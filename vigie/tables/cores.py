"""Work through independent parts on all cores, as NumPy and Arrow allow in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

FEWEST_ROWS = 100_000
"""Below, threads cost more than they save."""


def on_all_cores(
    function: Callable[[Part], Result], parts: Sequence[Part], n_rows: int
) -> Iterator[Result]:
    """Yield what a function makes of each part, in their order.

    Parameters
    ----------
    function : callable
        Called in several threads if the parts hold many rows.
    parts : sequence
        Its arguments; what is not begun when the caller stops is left out.
    n_rows : int
        The rows that they hold together.
    """
    if n_rows < FEWEST_ROWS or len(parts) < 2:
        yield from map(function, parts)
        return
    with ThreadPoolExecutor() as pool:
        yield from pool.map(function, parts)


def one_ahead(parts: Iterator[Part]) -> Iterator[Part]:
    """Yield parts; each is read in another thread while the caller works on the one before."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part
