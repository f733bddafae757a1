"""Text from outside, such as names, as it may be shown: in logs, in a terminal, in messages."""

from __future__ import annotations

import unicodedata

SHOWN = ("\n", "\t")
"""Control characters that are no fault in a text of several lines."""
DANGEROUS = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode that move the cursor, change the terminal, or hide or reorder text."""


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
