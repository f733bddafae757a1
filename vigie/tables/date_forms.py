"""Forms of dates in letters, such as dd/mm/yyyy, by which files tell how they write their own."""

from __future__ import annotations

import re

from vigie.tables.written_times import Order

DAY, MONTH, YEAR = "dtgpд", "mkм", "yvrг"
"""Letters that stand for the parts of a date, in the languages of Europe."""

_DATE = re.compile(
    r"(?<![^\W_])%?([^\W\d_])\1{0,3}([-/. ])%?([^\W\d_])\3{0,3}\2%?([^\W\d_])\4{0,3}(?![^\W\d_])"
)
_CLOCK = re.compile(r"%?h{1,2}(24|12)?[:.]%?m[mi]?([:.]%?s{1,2}([.,:]?[sf0]{1,6})?)?(\s?(tt|ap?))?")
_COMPACT = re.compile(r"(y{2,4}mmdd|ddmmy{2,4}|mmddy{2,4})[ _t-]?(hh(24)?(mm|mi)?(ss)?)?")


def order_in(text: str) -> Order | None:
    """Return what the numbers of a date mean by a text such as "Date (dd/mm/yyyy)".

    Also in other languages, such as TT.MM.JJJJ or jj/mm/aaaa, and as for ``strptime``. None if it
    holds no form of a date, or one with another order.
    """
    for found in _DATE.finditer(text.lower()):
        letters = found[1] + found[3] + found[4]
        # French has jj for the day, and aaaa for the year; German has JJJJ for the year.
        day, year = (DAY + "j", YEAR + "a") if "a" in letters else (DAY, YEAR + "j")
        order = "".join(
            next((part for part, of in zip("dmy", (day, MONTH, year), strict=True) if a in of), "")
            for a in letters
        )
        for known in ("dmy", "mdy", "ymd", "ydm"):
            if order == known:
                return known
    return None


def is_form(text: str) -> bool:
    """Return whether a cell tells how times are written, such as "dd/mm/yyyy hh:mm:ss"."""
    inside = text.strip().strip("[](){}<>").strip().lower()
    if _CLOCK.fullmatch(inside) or _COMPACT.fullmatch(inside):
        return True
    found = _DATE.match(inside)
    return found is not None and order_in(inside) is not None and len(inside) - found.end() <= 20
