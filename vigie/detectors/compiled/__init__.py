"""Kernels compiled by numba. Each module is imported on first access, such as ``compiled.rows``.

Importing numba takes a third of a second, which would delay every command.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vigie.detectors.compiled import (  # noqa: F401
        averaging,
        evidence,
        odds,
        operating_points,
        rows,
    )


def __getattr__(name: str) -> ModuleType:
    """Import a module of kernels, which makes it a normal attribute."""
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from error
