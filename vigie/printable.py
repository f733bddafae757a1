"""Text from outside, such as names, as it may be shown: in logs, in a terminal, in messages."""

from __future__ import annotations

import unicodedata

SHOWN = ("\n", "\t")
"""Control characters that are no fault in a text of several lines."""
DANGEROUS = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode that move the cursor, change the terminal, or hide or reorder text."""
FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula, and runs."""


def printable(text: str, *, of_lines: bool = False) -> str:
    r"""Return a text with its control characters escaped, as ``\x1b`` and the like.

    Parameters
    ----------
    text : str
        Any text.
    of_lines : bool, default False
        Whether line feeds and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if unicodedata.category(character) not in DANGEROUS or (of_lines and character in SHOWN)
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def cell_for_people(text: str) -> str:
    """Return a text as a cell of a CSV file that a spreadsheet takes as text."""
    text = printable(text)
    return f"'{text}" if text.startswith(FORMULA) else text
