"""How the kernels are compiled: once on a machine, and kept beside the code or where numba may.

Every function has one signature, so importing its module compiles it, or reads what was compiled
before; no call ever does. A change in ``functions.py`` does not reach what is kept of the modules
that use it: numba looks at the text of the function's own file alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types
from numba.np import linalg

Function = TypeVar("Function", bound=Callable[..., Any])

FAITHFUL: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
"""Sums are added in the order in which they stand; a product and a sum may share one rounding."""


def _take_in_arrays() -> None:
    """Have numba take in its functions of arrays, but not scipy.linalg to see if that has a BLAS.

    It has, whenever a function asks for it; no kernel does, and it is a quarter of the time to the
    first score of a process.
    """

    def not_yet() -> None:
        raise ImportError

    asked, linalg.ensure_blas = linalg.ensure_blas, not_yet
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = asked


_take_in_arrays()


def given(dtype: Any, ndim: int) -> types.Array:
    """Return the type of a C-contiguous array that a kernel only reads."""
    return types.Array(dtype, ndim, "C", readonly=True)


def filled(dtype: Any, ndim: int) -> types.Array:
    """Return the type of a C-contiguous array that a kernel writes into."""
    return types.Array(dtype, ndim, "C")


def compiled(
    *arguments: Any, returns: Any = types.void, in_vectors: bool = False, **options: Any
) -> Callable[[Function], Function]:
    """Compile a function for arguments of these types.

    Parameters
    ----------
    *arguments, returns : numba types
        Its signature.
    in_vectors : bool
        Make vector instructions of straight-line code as well, not of loops alone. Compilers of C
        always do; numba has to be told, and walks side by side are slower for it.
    **options
        Of numba, beside or instead of ``FAITHFUL``.
    """
    signature = returns(*arguments)

    def compile_it(function: Function) -> Function:
        numba.config.SLP_VECTORIZE = int(in_vectors)
        try:
            kernel: Function = numba.njit(signature, cache=True, **FAITHFUL | options)(function)
        except (OSError, RuntimeError):
            # There is no place to keep it. That costs seconds in each process, and nothing else.
            kernel = numba.njit(signature, **FAITHFUL | options)(function)
        return kernel

    return compile_it


def part_of_kernels(function: Function) -> Function:
    """Make a function one that kernels may call, compiled into each of them."""
    part: Function = numba.njit(**FAITHFUL)(function)
    return part
