"""What columns of qualities say of values: good, uncertain or bad, as historians write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vigie.tables import names
from vigie.tables.numbers import SWITCHED_OFF

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
_FAILED = """
    comm communication i/o timeout failure failed fail error disconnected offline missing nodata
    no not under over out sensor
"""
FAILED = frozenset(_FAILED.split())
"""First words of a failure, such as "Comm Fail", beside a word for good."""
LETTERS = {"g": False, "b": True, "u": True}
"""Good, bad and uncertain, in a column that has no other letter."""
GOOD, BAD = frozenset(_GOOD.split()), frozenset(_BAD.split())
CODES = frozenset({0, 4, 8, 12, 16, 20, 24, 28, 64, 68, 80, 84, 88, 192, 216})
"""Qualities of OPC. The two highest bits tell: 11 good, 01 uncertain, 00 bad."""
GOOD_BITS = 0xC0
UNCERTAIN_STATUS = 0x4000_0000
"""Status codes of OPC UA are 0 where a value is good, and at least this where it is not."""
_CODE, _HEX = re.compile("[0-9]{1,10}|0x[0-9a-f]+"), re.compile("0[xX][0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?$")
NAMES = frozenset(
    ["quality", "qualitydetail", "opcquality", "qualite", "qualitat", "qualitaet", "qualidade"]
)
YES = frozenset({"good", "valid", "isgood", "isvalid"})
ENDS = YES | {"q", "qc", "qual"}
FLAGS = frozenset(["bad", "isbad", "invalid", "isinvalid", "iserror", "error", "err", "errorcode"])
"""Names of columns that say of a value that it is bad: by 1, true, or the number of an error."""
NO_FLAGS = frozenset(["0", "none", "no error", "kein fehler", *GOOD, *SWITCHED_OFF])
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
ALARMS = frozenset(
    ["alarm", "alarms", "alarme", "fault", "faults", "faulty", "warning", "warnings", "failure"]
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


def names_a_flag(name: object) -> bool:
    """Return whether a name is one of a column that flags bad values: "bad", "IsError"."""
    found = set(names.words(name))
    return names.ends_with(name, FLAGS) or {"error", "code"} <= found or "fehlercode" in found


def is_flag(series: pd.Series[Any]) -> bool:
    """Return whether a column flags bad values, by its name and by what it holds."""
    return names_a_flag(series.name) and quality_of(series) is not None


def names_an_alarm(name: object) -> bool:
    """Return whether a name is one of alarms or faults, of the value or of the machine."""
    return names.ends_with(name, ALARMS)


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
    name = str(series.name)
    if names_a_flag(name):
        told = _of_flags([_shown(word).strip().casefold() for word in found])
        # More than a few bad values are numbers or remarks of another kind.
        flags = np.append([bool(flag) for flag in told or [False] * len(found)], False)
        told = told if 2 * np.count_nonzero(flags[codes]) < len(codes) else None
    elif pd.api.types.is_numeric_dtype(series):
        told = _of_numbers(name, np.asarray(found, dtype=np.float64))
    elif all(_HEX.fullmatch(str(word)) for word in found):
        told = _of_numbers(name, np.array([int(str(word), 16) for word in found], np.float64))
    else:
        told = _of_words([str(word).strip().casefold() for word in found])
    if told is None or all(is_bad is None for is_bad in told):
        return None
    is_bad = np.append([flag is True for flag in told], False)[codes]
    shown = list(map(_shown, found))
    examples = dict(zip(told[::-1], shown[::-1], strict=True))
    return Quality(is_bad, examples.get(True, ""), examples.get(None, ""))


def _shown(word: Any) -> str:
    return f"{word:.10g}" if isinstance(word, float) else str(word)


def _of_words(found: list[str]) -> list[bool | None]:
    """Return which words mean bad; None for one that is not known."""
    if LETTERS.keys() >= set(found):
        return [LETTERS[word] for word in found]
    first = [re.split(r"[\s,;_:(-]", word)[0] for word in found]
    told = [_is_bad(word) for word in first]
    if False not in told:
        return told
    # Beside "good", a failure is one of the value, and beside "running" one of the machine.
    return [
        word in FAILED or None if is_bad is None else is_bad
        for word, is_bad in zip(first, told, strict=True)
    ]


def _of_flags(found: list[str]) -> list[bool | None] | None:
    """Return which flags mean bad; None if they are other numbers, such as deviations."""
    codes = [
        int(word, 16 if "x" in word else 10) if _CODE.fullmatch(word) else None for word in found
    ]
    if any(code is None and _NUMBER.match(word) for code, word in zip(codes, found, strict=True)):
        return None
    return [
        word not in NO_FLAGS if code is None else code != 0
        for code, word in zip(codes, found, strict=True)
    ]


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
    if whole.max() >= UNCERTAIN_STATUS and (0 in whole or whole.min() >= UNCERTAIN_STATUS):
        return [code >= UNCERTAIN_STATUS for code in whole.tolist()]
    return None
