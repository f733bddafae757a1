"""Compile the kernels with numba, and cache them on disk.

Every function has an explicit signature, so it is compiled, or loaded from the cache, when its
module is imported, never by a call. A change in ``functions.py`` does not invalidate the cache of
the modules that use it: numba checks only the file of the function itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types
from numba.np import linalg

logger = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
"""No reassociation of sums; only fused multiply-add is allowed."""
_said: list[str] = []


def _import_arraymath() -> None:
    """Import numba's array functions without importing scipy.linalg to check for a BLAS.

    No kernel needs a BLAS, and the import takes a quarter of the time to the first score of a
    process. numba checks again when a function does need it.
    """

    def skip() -> None:
        raise ImportError

    ensure_blas, linalg.ensure_blas = linalg.ensure_blas, skip
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = ensure_blas


_import_arraymath()


def read_only(dtype: Any, ndim: int) -> types.Array:
    """Return the type of a C-contiguous array that a kernel only reads."""
    return types.Array(dtype, ndim, "C", readonly=True)


def writable(dtype: Any, ndim: int) -> types.Array:
    """Return the type of a C-contiguous array that a kernel writes into."""
    return types.Array(dtype, ndim, "C")


def compiled(
    *arguments: Any, returns: Any = types.void, in_vectors: bool = False, **options: Any
) -> Callable[[Function], Function]:
    """Compile a function for arguments of these types.

    Parameters
    ----------
    *arguments, returns : numba types
        The signature.
    in_vectors : bool
        Vectorise straight-line code as well (SLP), not only loops. Off by default, as in numba,
        since it slows down the parallel walks of the isolation forest.
    **options
        numba options that extend or override ``OPTIONS``.
    """
    signature = returns(*arguments)

    def decorate(function: Function) -> Function:
        numba.config.SLP_VECTORIZE = int(in_vectors)
        try:
            kernel: Any = numba.njit(signature, cache=True, **OPTIONS | options)(function)
        except (OSError, RuntimeError):
            _say_once("in each process, for want of a folder to keep them (set NUMBA_CACHE_DIR)")
            kernel = numba.njit(signature, **OPTIONS | options)(function)
        else:
            # With NUMBA_DISABLE_JIT, it is the function itself.
            if (stats := getattr(kernel, "stats", None)) and stats.cache_misses:
                _say_once(f"once, and kept in {stats.cache_path}")
        found: Function = kernel
        return found

    return decorate


def _say_once(how: str) -> None:
    """Say how functions are compiled; of several folders, the first."""
    if not _said:
        logger.info("Vigie's numerical functions are compiled %s; this takes some seconds.", how)
    _said.append(how)


def helper(function: Function) -> Function:
    """Compile a function that kernels call; it becomes part of each of them."""
    part: Function = numba.njit(**OPTIONS)(function)
    return part
