"""Kernels that numba compiles, each module imported when it is first asked for.

numba takes a third of a second to import, which no process shall pay that only starts:
``compiled.rows`` imports it where it is used.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vigie.detectors.compiled import averaging, evidence, odds, rows  # noqa: F401


def __getattr__(name: str) -> ModuleType:
    """Import a module of kernels; from then on it is an attribute like any other."""
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from error
