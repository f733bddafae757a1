"""Numbers as people and programs dress them up, written plainly: "0.061-" becomes "-0.061".

What is done here leaves the marks between digits as they are, since all cells of a column decide on
these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vigie.tables.written_times import bytes_of

if TYPE_CHECKING:
    import pyarrow as pa

SPACES = " \u00a0\u202f\u2009"
APOSTROPHES = "'’"
DASHES = "−–‒—﹣－"
"""Minus signs beside the one of a keyboard: of typesetters, and of East Asian fonts."""
CURRENCIES = "€$£¥₹"

_FOREIGN_DIGITS = "٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹０１２３４５６７８９"
_PLAIN = str.maketrans(_FOREIGN_DIGITS + "٫٬．，＋－％", "0123456789" * 3 + ".,.,+-%")

_SPACE = f"[{SPACES}]*"
_NUMBER = rf"(?:[0-9]|[.,][0-9])(?:[0-9.,{APOSTROPHES}{SPACES}]*[0-9.,])?(?:[eEdD][-+]?[0-9]+)?"
_UNIT = rf"(?:{_SPACE}[%°a-zA-Zµ]{{1,2}}[^0-9()]*)?"


@dataclass(frozen=True)
class Dress:
    """One way to dress a number.

    Attributes
    ----------
    worn, plain : str
        A pattern for a whole cell, for Python and for Arrow alike, and what replaces it.
    is_told : bool
        Whether it can mean something else, so that a user should know how it is read.
    """

    worn: str
    plain: str
    is_told: bool = False


DRESSES = (
    Dress(rf"^[~≈]{_SPACE}(-?{_NUMBER}{_UNIT})$", r"\1", is_told=True),
    Dress(rf"^\({_SPACE}({_NUMBER}{_UNIT}){_SPACE}\)$", r"-\1", is_told=True),
    Dress(rf"^({_NUMBER})[-{DASHES}]$", r"-\1", is_told=True),
    Dress(rf"^[{DASHES}]{_SPACE}({_NUMBER}{_UNIT})$", r"-\1"),
    Dress(rf"^([-+]){_SPACE[:-1]}+({_NUMBER}{_UNIT})$", r"\1\2"),
    Dress(rf"^([-+]?){_SPACE}([{CURRENCIES}]){_SPACE}({_NUMBER})$", r"\1\3 \2"),
)


def dress_of(mask: str) -> int | None:
    """Return which of ``DRESSES`` a cell wears, by its mask; None for a plain one."""
    if mask[:1].isdigit() and mask[-1:] not in f"-{DASHES}":
        return None
    return next((i for i, dress in enumerate(DRESSES) if re.match(dress.worn, mask)), None)


def undressed(cells: pa.Array, worn: NDArray[np.int64]) -> pa.Array:
    """Return cells of text without their dresses, given by number, -1 for none, shape (n,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for number in np.unique(worn[worn >= 0]).tolist():
        dress = DRESSES[number]
        plain = pc.replace_substring_regex(cells, dress.worn, dress.plain)
        cells = pc.if_else(pa.array(worn == number), plain, cells)
    return cells


def in_plain_digits(cells: pa.Array) -> pa.Array:
    """Return cells of text with the digits 0 to 9 in place of Arabic and of full-width ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    data, _ = bytes_of(cells)
    if not len(data) or data.max() < 0x80:
        return cells
    if not pc.any(pc.match_substring_regex(cells, f"[{_FOREIGN_DIGITS}]")).as_py():
        return cells
    texts: Sequence[str | None] = cells.to_pylist()
    return pa.array([None if text is None else text.translate(_PLAIN) for text in texts])
