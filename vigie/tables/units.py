"""Units of measurement, as they stand in names, below them, and behind numbers."""

from __future__ import annotations

import re

_UNITS = """
    °C °F K degC degF C F bar mbar Pa hPa kPa MPa psi A mA V mV kV W kW MW kWh MWh VA kVA Hz kHz
    rpm 1/min min-1 U/min tr/min mm/s m/s m/s2 m/s² g mm cm m µm um l/min L/min l/s l/h L/h m3/h
    m³/h m3/s m³/s m3/min Nm3/h Nm³/h kg/h kg/s t/h kg t N kN Nm % ppm s sec ms min h - 1 [-] UTC
    deg ° rad rad/s dB dBA µS/cm pH Ohm Ω kOhm %RH %rH %rF RPM Bar PSI l L m3 m³ kvar kJ MJ GJ
    degT nmi ft kn yr dy hr mn inHg mmHg ft/s mph gpm cfm psig psia lb lbs kip
    km/h mg/l g/l NTU var µA µV g/m3 g/m³ W/m2 W/m² mbar(a) mbar(g) bar(a) bar(g) bara barg ℃ ℉
"""
UNITS = frozenset([*_UNITS.split(), "% RH", "% rH", "% r.F.", "% r.H.", "%r.F.", "% rF", "% HR"])
"""Common units; others are recognized by their brackets."""
_FACTORS = "% ‰ k K M G T m µ u n p B Tsd Tsd. Mio Mio. Mrd Mrd. Mil Mill Bil"
FACTORS = frozenset(_FACTORS.split())
"""What may multiply the number before it: "1.09 K" is a thousand and ninety in many a dashboard."""
_THOUSANDS = {1e3: "k K Tsd Tsd.", 1e6: "M Mio Mio. Mil Mill", 1e9: "G Mrd Mrd. Bil"}
THOUSANDS = {factor: by for by, factors in _THOUSANDS.items() for factor in factors.split()}
"""Factors that dashboards put behind numbers from a thousand on, and what they multiply by."""

_PREFIXES = {"p": 1e-12, "n": 1e-9, "µ": 1e-6, "μ": 1e-6, "u": 1e-6, "m": 1e-3, "c": 1e-2}
_PREFIXES |= {"": 1.0, "h": 1e2, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BASES = """
    W Wh VA VAh var varh V A Ah Hz Pa bar J N Nm Ω Ohm ohm g m l L F S B b bit bps o
"""
_SCALED = re.compile(rf"([{''.join(_PREFIXES)}]?)({'|'.join(_BASES.split())})(/.+)?")
_BINARY = {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40}
_BINARY |= {"KB": 1e3, "Ko": 1e3}
_SECONDS = {"ns": 1e-9, "µs": 1e-6, "μs": 1e-6, "us": 1e-6, "ms": 1e-3}
_SECONDS |= dict.fromkeys(["s", "sec", "secs", "second", "seconds"], 1.0)
_SECONDS |= dict.fromkeys(["min", "mins", "minute", "minutes"], 60.0)
_SECONDS |= dict.fromkeys(["h", "hr", "hrs", "hour", "hours"], 3600.0)
_SECONDS |= dict.fromkeys(["day", "days"], 86_400.0)

_SAME = {
    "°C": "degC C ℃ °c grdC",
    "°F": "degF F ℉",
    "1/min": "min-1 rpm RPM U/min tr/min r/min",
    "bar": "Bar BAR",
    "psi": "PSI",
    "°": "deg",
    "%RH": "%rH %rF %r.F. %r.H. %HR",
}
_SPELT = {spelling: unit for unit, others in _SAME.items() for spelling in others.split()}
_LETTERS = str.maketrans({"²": "2", "³": "3", "μ": "µ", "Ω": "Ω", "ℓ": "l", "L": "l"})


def scaled(unit: str) -> tuple[str, float]:
    """Return a unit without the prefix of its scale, and what it is in that: kW is 1000 W.

    Dashboards choose the prefix for each number. What is no multiple of another unit is itself.
    """
    if unit in _SECONDS:
        return "s", _SECONDS[unit]
    if unit in _BINARY:
        return "o" if unit == "Ko" else "B", _BINARY[unit]
    if (match := _SCALED.fullmatch(unit)) is None:
        return unit, 1.0
    prefix, base, tail = match.groups(default="")
    is_usual = base == "Pa" if prefix == "h" else prefix != "c" or base in ("m", "l", "L")
    return (base + tail, _PREFIXES[prefix]) if is_usual else (unit, 1.0)


def is_unit(word: str) -> bool:
    """Return whether a word is a known unit, or a multiple of one."""
    plain = "".join(word.split())
    is_known = word in UNITS or plain in _SPELT or plain in _SECONDS or plain in _BINARY
    return is_known or _SCALED.fullmatch(plain) is not None


def in_other(name: str, unit: str, wanted: str) -> tuple[float, str]:
    """Return what values are multiplied by that are in one unit and wanted in another.

    Parameters
    ----------
    name : str
        Of the column.
    unit, wanted : str
        As they are written; empty if there is none.

    Returns
    -------
    factor : float
        1 if one of them is not known, or none is a multiple of the other.
    note : str
        What the user should know of it; empty if nothing.
    """
    if not unit or not wanted or as_spelt(unit) == as_spelt(wanted):
        return 1.0, ""
    (base, by), (wanted_base, wanted_by) = scaled(unit), scaled(wanted)
    here = f"{name} is in {unit} here, and was in {wanted} in training"
    if as_spelt(base) != as_spelt(wanted_base):
        return 1.0, f"{here}: its values are taken as they stand"
    return by / wanted_by, f"{here}: its values are read in {wanted}"


def as_spelt(unit: str) -> str:
    """Return one spelling for all of a unit."""
    plain = "".join(unit.split())
    return _SPELT.get(plain, plain.translate(_LETTERS))
