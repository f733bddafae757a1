"""Words in the names of columns, in English, French and German, which break ties between values."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any

_PIECES = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NUMBERED = re.compile(r"column \d+")
_LONG = 6
"""Letters from which a word may stand inside another, as in "Betriebsstunden"."""


def _listed(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


LABEL = _listed(
    "label labels anomaly anomalies anomalous outlier fault faults faulty failure failures failed",
    "target class y changepoint defect defective broken groundtruth truth",
    "anomalie etiquette panne defaut defaillance cible classe",
    "storung stoerung fehler ausfall defekt zielwert klasse kennzeichnung",
)
CHANGEPOINT = _listed("changepoint changepoints")
COUNTER = _listed(
    "count counts counter total totals totalizer cumulative hours hrs runtime odometer mileage",
    "energy kwh mwh wh batch lot cycle cycles starts pieces",
    "compteur heures cumul energie lots",
    "zahler zaehler stunden betriebsstunden charge stuck laufleistung",
)
CLOCK = _listed(
    "time times timestamp ts epoch unix clock elapsed uptime seconds sec secs millis ms",
    "horodatage heure secondes zeit uhrzeit laufzeit sekunden zeitstempel",
)
IDENTIFIER = _listed("id ids uid uuid guid serial serialnumber identifiant seriennummer")
MACHINE = _listed(
    "asset machine machines unit engine device equipment turbine",
    "appareil equipement maschine anlage gerat geraet",
)
STATE = _listed("state mode switch running zustand betriebsart modus schalter etat")
PLACE = _listed(
    "site plant location building room hall station area line cell host",
    "standort werk ort raum halle gebaude gebaeude linie usine lieu salle batiment ligne",
)
TAG = _listed(
    "tag tags tagname id sensor sensors field variable metric point pointname signal signalname",
    "channel topic entity parameter attribute name alias series capteur voie messstelle kanal",
)
VALUE = _listed("value val vvalue state reading wert messwert valeur mesure")
UNIT = _listed(
    "unit units uom engunits einheit einheiten unite unites unidad unidades unita eenheid"
)
QUALITY = _listed("quality status flag flags opcquality qualite qualitat qualitaet")
CALENDAR = {
    **dict.fromkeys(("year", "yr", "annee", "jahr"), (1700, 2100)),
    "month": (1, 12),
    "mois": (1, 12),
    "monat": (1, 12),
    "week": (0, 53),
    "semaine": (0, 53),
    "woche": (0, 53),
    "day": (0, 366),
    "jour": (0, 366),
    "weekday": (0, 7),
    "dayofweek": (0, 7),
    "wochentag": (0, 7),
    "hour": (0, 24),
    "heure": (0, 24),
    "stunde": (0, 24),
    "minute": (0, 60),
    "second": (0, 60),
    "seconde": (0, 60),
    "sekunde": (0, 60),
    "doy": (1, 366),
    "dayofyear": (1, 366),
    "yday": (1, 366),
    "hhmm": (0, 2400),
    "hhmmss": (0, 240_000),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), (0, 999)),
    **dict.fromkeys(("millisekunde", "millisekunden", "milliseconde", "millisecondes"), (0, 999)),
    **dict.fromkeys(("hundredths", "centiseconds", "hundertstel", "centiemes"), (0, 99)),
}
"""Parts of a date, with their lowest and highest values."""
PART_OF_DAY = _listed(
    "quarter interval period shift timeslot viertelstunde schicht periode quart poste turno",
    "intervall intervalle quarterhour halfhour",
)
"""Counts that begin again with each day or hour, as machines do with each time."""
YEAR = _listed("year yr date decimal jahr datum annee")
COARSE = _listed("year month day hour minute annee mois jour heure jahr monat tag stunde")
"""Those that are no finer than a minute."""


def words(name: object) -> list[str]:
    """Return the words of a name, in lower case without accents: "TagName" is "tag", "name".

    A word in mixed case counts whole too, before its pieces: "kWh" is "kwh", "k", "wh".
    """
    plain = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode()
    found = []
    for chunk in re.findall(r"[A-Za-z0-9]+", plain):
        pieces = _PIECES.findall(chunk)
        found += [chunk.lower(), *(p.lower() for p in pieces)] if len(pieces) > 1 else [chunk]
    return [word.lower() for word in found]


def letters(name: str) -> str:
    """Return the letters of a name of any language, in lower case: "Time [1]" is "time"."""
    return "".join(re.findall(r"[^\W\d_]+", name)).lower()


def has(name: object, known: Collection[str]) -> bool:
    """Return whether a name has one of some known words, or a long one inside another word."""
    found = words(name)
    long = [word for word in known if len(word) >= _LONG]
    return any(word in known or any(part in word for part in long) for word in found)


def ends_with(name: object, known: Collection[str]) -> bool:
    """Return whether the last word of a name is a known one: "machine_id", not "id_voltage"."""
    found = [word for word in words(name) if not word.isdigit()]
    return bool(found) and found[-1] in known


def names_a_machine(name: object) -> bool:
    """Return whether a name is one for machines: "unit", "MachineID", "asset_name", "engine no".

    "machine_speed" is none, since a word for a machine must be all that is left.
    """
    found = [word for word in words(name) if not word.isdigit()]
    rest = IDENTIFIER | {"no", "nr", "number", "num", "name", "nummer", "numero"}
    wholes = {word for word in found if any(m in word and m != word for m in MACHINE)}
    left = [word for word in found if word not in rest and word not in wholes]
    return bool(left) and all(word in MACHINE for word in left)


def written(value: Any) -> str:
    """Return the name of a tag or machine: "7" for the number 7."""
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if is_whole else str(value)


def is_numbered(name: str) -> bool:
    """Return whether a name is the number of a column that has none, such as "column 3"."""
    return _NUMBERED.fullmatch(name) is not None


def with_unit(name: str, unit: str | None) -> str:
    """Return the name of a column with its unit, unless it ends with that, as "flow [L/min]"."""
    is_in_name = unit and name.endswith((f"[{unit}]", f"({unit})"))
    return f"{name}, {unit}" if unit and not is_in_name else name


def nearest(name: str, columns: Iterable[str]) -> str | None:
    """Return the column whose name is nearest to another one; None if none is near.

    Units in brackets, capitals and marks between words do not count.
    """
    plain = {_plain(column): column for column in columns}
    near = get_close_matches(_plain(name), plain, n=1)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    without_unit = re.sub(r"[\[(].*?[\])]", "", name) or name
    return re.sub(r"[\W_]+", "", without_unit).lower()
