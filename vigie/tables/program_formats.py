"""What programs write round the cells of a table, and above its names.

Database shells draw boxes, Excel writes ``="1.5"`` to keep a text, and historians have their own
lines above the readings. Their lines are brought into plain cells between separators; a table of
another kind keeps its lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vigie.errors import InvalidDataError

Change = Callable[[str], str]

BYTE_ORDER_MARK = "\ufeff"
FIRST_LINES = 100
RULED_LINES = 3
"""A line below the names has been drawn by then."""
MOSTLY = 0.9
_BOX_RULE = re.compile(r"\s*(\+?-[-+]*\+[-+]*|\|[-:| ]*--[-:| ]*\|)\s*")
_SPACED_RULE = re.compile(r"\s*(-{2,}|={2,})( +(-+|=+))+\s*")
_FORMULA = re.compile(r'(^|[,;|\t])="([^"]*)"(?=[,;|\t]|\s*$)')
_QUOTED_FORMULA = re.compile(r'"=""([^"]*)"""')
_SPACE_BEFORE_QUOTE = re.compile(r'([,;|\t]) +"')
_END_OF_HEADER = re.compile(r"\W*end[ _]of[ _]header\W*", re.IGNORECASE)
_FASTLOAD = ("tag", "operation", "date", "time", "value type", "value", "quality")


def changes_of(lines: Sequence[str]) -> list[Change]:
    """Return what has to be done to each line of a file, by its first ones."""
    some = [line for line in lines[:FIRST_LINES] if line.strip()]
    changes: list[Change] = []
    if any(BYTE_ORDER_MARK in line for line in lines):
        changes.append(without_mark)
    if (rule := next(filter(_BOX_RULE.fullmatch, some[:RULED_LINES]), None)) is not None:
        changes.append(_without_edges if rule.strip()[0] in "+|" else _without_rule)
    elif (rule := next(filter(_SPACED_RULE.fullmatch, some[:RULED_LINES]), None)) is not None:
        drawn = rule.strip()
        changes.append(lambda line: "" if line.strip() == drawn else line)
    if any('="' in line for line in some):
        changes.append(_without_formulas)
    if sum(map(_has_space_before_quote, some)) > MOSTLY * len(some):
        changes.append(_without_space_before_quotes)
    return changes


def changed(line: str, changes: Sequence[Change]) -> str:
    """Return a line after all changes."""
    for change in changes:
        line = change(line)
    return line


def without_mark(line: str) -> str:
    """Return a line without the mark of the encoding, where files were joined."""
    return line.replace(BYTE_ORDER_MARK, "")


def _without_rule(line: str) -> str:
    return "" if _BOX_RULE.fullmatch(line) else line


def _without_edges(line: str) -> str:
    bare = _without_rule(line).strip()
    return bare[1:-1] if bare[:1] == bare[-1:] == "|" else bare


def _without_formulas(line: str) -> str:
    return _FORMULA.sub(r'\1"\2"', _QUOTED_FORMULA.sub(r'"\1"', line))


def _has_space_before_quote(line: str) -> bool:
    return line.count('"') % 2 == 0 and _SPACE_BEFORE_QUOTE.search(line) is not None


def _without_space_before_quotes(line: str) -> str:
    return _SPACE_BEFORE_QUOTE.sub(r'\1"', line)


@dataclass(frozen=True)
class Head:
    """What stands above a table.

    Attributes
    ----------
    n_lines : int
        Its lines.
    names : str
        The line that names the columns; empty where it is none of these.
    separator : str, optional
        The separator, where a line states it.
    note : str
        What a user should know; empty if nothing.
    """

    n_lines: int = 0
    names: str = ""
    separator: str | None = None
    note: str = ""


def head_of(lines: Sequence[str]) -> Head:
    """Return what a known program writes above its table; an empty one for others.

    Raises
    ------
    InvalidDataError
        If several tables follow each other.
    """
    words = [line.strip().strip('"') for line in lines[:FIRST_LINES]]
    if words[0] == "#NAMES":
        at = next((i for i, word in enumerate(words) if word.startswith("#ROWS")), 0)
        return (
            Head(at + 1, lines[1], note="Lines of Ignition are above the readings")
            if at
            else Head()
        )
    if words[0] == "ASCII" and len(words) > 3 and len(words[1]) == 1:
        mark = words[1]
        if all(line.count(mark) + 1 == len(_FASTLOAD) for line in lines[3:FIRST_LINES] if line):
            note = "A fastload file of Wonderware: its columns have no names, but an order"
            return Head(3, mark.join(_FASTLOAD), mark, note)
    return _labview_head(lines)


def _labview_head(lines: Sequence[str]) -> Head:
    # Rows of readings begin with a digit; a match of each would take a tenth of the whole.
    words = (i for i, line in enumerate(lines) if not line[:1].isdigit())
    ends = [i for i in words if _END_OF_HEADER.fullmatch(lines[i])]
    if not ends:
        return Head()
    # The file has a head, and each table in it another one, which tells its channels.
    tables = [end for end in ends[1:] if any("Channels" in line for line in lines[ends[0] : end])]
    if len(tables) > 1:
        raise InvalidDataError(
            f"Line {tables[1] + 1} ends the head of another table.",
            field="FILE",
            remedy="Save each table (each segment of a measurement) to a file of its own.",
        )
    return Head((tables or ends)[0] + 1)
