"""What columns of qualities say of values: good, uncertain or bad, as historians write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vigie.tables import names

if TYPE_CHECKING:
    import pandas as pd

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

_GOOD = """
    good ok okay valid gd normal gut gültig gueltig bon bonne valide bueno buena válido valido buono
"""
_BAD = """
    bad uncertain invalid questionable stale schlecht ungültig ungueltig unsicher mauvais mauvaise
    incertain incertaine invalide malo mala incierto cattivo incerto
"""
LETTERS = {"g": False, "b": True, "u": True}
"""Good, bad and uncertain, in a column that has no other letter."""
GOOD, BAD = frozenset(_GOOD.split()), frozenset(_BAD.split())
CODES = frozenset({0, 4, 8, 12, 16, 20, 24, 28, 64, 68, 80, 84, 88, 192, 216})
"""Qualities of OPC. The two highest bits tell: 11 good, 01 uncertain, 00 bad."""
GOOD_BITS = 0xC0
UNCERTAIN_STATUS = 0x4000_0000
"""Status codes of OPC UA are 0 where a value is good, and at least this where it is not."""
NAMES = frozenset(
    ["quality", "qualitydetail", "opcquality", "qualite", "qualitat", "qualitaet", "qualidade"]
)
YES = frozenset({"good", "valid", "isgood", "isvalid"})
ENDS = YES | {"q", "qc", "qual"}
_CODE_WORDS = """
    statusword statuscode statusbits errorcode errorword errorbits faultcode faultword faultbits
    alarmcode alarmword alarmbits alarmbit controlword warningcode warningword fehlercode fehlerwort
    statuswort zustandswort steuerwort störcode storcode stoercode alarmwort
"""
CODE_WORDS = frozenset(_CODE_WORDS.split())
_ABOUT = frozenset(
    [
        "status",
        "state",
        "error",
        "fault",
        "alarm",
        "alarms",
        "warning",
        "fehler",
        "control",
        "alarme",
    ]
)
_OF_BITS = frozenset(
    ["word", "code", "codes", "bit", "bits", "mask", "register", "wort", "bitmask"]
)


@dataclass(frozen=True, eq=False)
class Quality:
    """What a column says of the values beside it.

    Attributes
    ----------
    is_bad : ndarray of bool of shape (n_rows,)
        Where a value is bad or uncertain.
    example : str
        The first cell that says so; empty if none does.
    unknown : str
        A cell whose meaning is not known; empty if there is none.
    """

    is_bad: Flags
    example: str
    unknown: str

    @property
    def n_bad(self) -> int:
        """Number of values that are bad or uncertain."""
        return int(self.is_bad.sum())


def names_a_quality(name: object) -> bool:
    """Return whether a name is one of a quality: "Temp_Quality", "P1.Q", "QualityDetail"."""
    return bool(NAMES.intersection(names.words(name))) or names.ends_with(name, ENDS)


def may_name_a_quality(name: object) -> bool:
    """Return whether a name may be one of a quality, beside a tag and a value: "Status"."""
    is_status = "statuscode" in names.words(name)
    return is_status or names_a_quality(name) or names.ends_with(name, names.QUALITY)


def names_a_code(name: object) -> bool:
    """Return whether a name is one of a code or of bits, such as "StatusWord"."""
    found = set(names.words(name))
    return bool(found & CODE_WORDS) or bool(found & _ABOUT and found & _OF_BITS)


def is_code(name: str, whole: Floats) -> bool:
    """Return whether whole numbers are codes, and no readings, by their name and by OPC."""
    if names_a_quality(name) and CODES.issuperset(np.unique(whole).tolist()):
        return float(whole.max()) > 1
    return names_a_code(name) and float(whole.max()) > 1


def quality_of(series: pd.Series[Any]) -> Quality | None:
    """Return what a column of qualities says; None if it says nothing, or is not understood.

    A missing quality is no bad one.
    """
    import pandas as pd

    codes, found = pd.factorize(series)
    if len(found) == 0:
        return None
    told: list[bool | None] | None
    if pd.api.types.is_numeric_dtype(series):
        told = _of_numbers(str(series.name), np.asarray(found, dtype=np.float64))
    else:
        told = _of_words([str(word).strip().casefold() for word in found])
    if told is None or all(is_bad is None for is_bad in told):
        return None
    is_bad = np.append([flag is True for flag in told], False)[codes]
    shown = [f"{word:.10g}" if isinstance(word, float) else str(word) for word in found]
    examples = dict(zip(told[::-1], shown[::-1], strict=True))
    return Quality(is_bad, examples.get(True, ""), examples.get(None, ""))


def _of_words(found: list[str]) -> list[bool | None]:
    """Return which words mean bad; None for one that is not known."""
    if LETTERS.keys() >= set(found):
        return [LETTERS[word] for word in found]
    return [_is_bad(re.split(r"[\s,;_:(-]", word)[0]) for word in found]


def _is_bad(word: str) -> bool | None:
    return True if word in BAD else False if word in GOOD else None


def _of_numbers(name: str, found: Floats) -> list[bool | None] | None:
    """Return which numbers mean bad; None if it is not known what they mean."""
    if set(found.tolist()) == {0.0, 1.0} and names.ends_with(name, YES):
        return [number == 0 for number in found.tolist()]
    if np.any(found != np.floor(found)) or np.any(found < 0):
        return None
    whole = found.astype(np.int64)
    if np.any(whole & 0xFF >= GOOD_BITS) and whole.max() <= 0xFFFF:
        return [(code & GOOD_BITS) != GOOD_BITS for code in whole.tolist()]
    if 0 in whole and whole.max() >= UNCERTAIN_STATUS:
        return [code >= UNCERTAIN_STATUS for code in whole.tolist()]
    return None
