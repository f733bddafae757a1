"""Read times that are written as text, in any common form, many at once.

Cells that differ in their digits only have one *shape* ("05/02/2024 10:00" has the shape
"00/00/0000 00:00"). A column has few shapes; a regular expression finds the numbers in each, and
numpy then reads the digits of all cells of a shape together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Order = Literal["dmy", "mdy", "ymd", "ydm"]
ORDERS: tuple[Order, ...] = ("dmy", "mdy", "ymd")
"""Those that people write by custom."""
Span = tuple[int, int]
"""Begin and end of a number in a cell, in bytes."""

Numbers = Callable[[Span | None], NDArray[np.int64]]
"""Reads the numbers in one span of all cells; zeros for None."""

SECOND = 1_000_000
"""In microseconds, as all times here."""
MILLISECOND = SECOND // 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
AT_A_TIME = 1 << 18
"""Cells that are read together, so that what they need stays small."""

MISSING = frozenset(("", "-", "--", "?", "na", "n/a", "#n/a", "nan", "nat", "none", "null"))
OFFSETS = {
    **dict.fromkeys(("z", "utc", "gmt", "ut", "wet"), 0),
    **dict.fromkeys(("west", "cet", "mez"), 60),
    **dict.fromkeys(("cest", "mesz", "eet", "sast"), 120),
    **dict.fromkeys(("eest", "msk"), 180),
    **dict.fromkeys(("awst",), 480),
    **dict.fromkeys(("jst", "kst"), 540),
    **dict.fromkeys(("aest",), 600),
    **dict.fromkeys(("aedt",), 660),
    **dict.fromkeys(("nzst",), 720),
    **dict.fromkeys(("nzdt",), 780),
}
"""Minutes ahead of UTC by the name of a zone, of those names that only one zone has."""

_MONTHS = (
    "jan january januar januari januar januári januára januar januarja jänner jaenner janv "
    "janvier ene enero gen gennaio janeiro sty stycznia styczeń led ledna leden ian ianuarie "
    "tammi tammikuuta oca ocak янв января январь sij siječnja siječanj січ січня січень ιαν "
    "ιανουαρίου ιανουάριος",
    "feb february februar februari februára február febr fev fév févr fevr février fevrier "
    "febrero febbraio fevereiro luty lutego února únor uno úno februarie helmi helmikuuta şub "
    "şubat фев февр февраля февраль lut velj veljače veljača лют лютого лютий φεβ φεβρουαρίου "
    "φεβρουάριος",
    "mar march mär mrz märz maerz mars marzo mrt maart março marco marts marec marca marzec bře "
    "března březen márc március martie maalis maaliskuuta mart мар марта март ožu ožujka ožujak "
    "бер березня березень μαρ μάρ μαρτίου μάρτιος",
    "apr april avr avril abr abril aprile kwi kwietnia kwiecień dub dubna duben ápr április "
    "aprilie huhti huhtikuuta nis nisan апр апреля апрель tra travnja travanj кві квіт квітня "
    "квітень απρ απριλίου απρίλιος",
    "may mai mayo mag maggio mei maio maj maja máj mája május kvě května květen touko toukokuuta "
    "mayıs май мая svi svibnja svibanj тра трав травня травень μαΐ μαϊ μάι μαΐου μάιος",
    "jun june juni juin junio giu giugno junho cze czerwca czerwiec června červen jún júna június "
    "iun iunie kesä kesäkuuta haz haziran июн июня июнь čvn lipnja lipanj чер черв червня червень "
    "ιουν ιούν ιουνίου ιούνιος",
    "jul july juli juil juillet julio lug luglio julho lipca lipiec července červenec júl júla "
    "július iul iulie heinä heinäkuuta tem temmuz июл июля июль čvc srpnja srpanj лип липня "
    "липень ιουλ ιούλ ιουλίου ιούλιος",
    "aug august aou aoû aout août ago agosto augustus augusti sie sierpnia sierpień srpna avg "
    "augusta augusztus elo elokuuta ağu ağustos авг августа август srpen kol kolovoza kolovoz сер "
    "серп серпня серпень αυγ αύγ αυγούστου αύγουστος",
    "sep sept september septembre septiembre set settembre setembro wrz września wrzesień zář "
    "září szept szeptember septembra septembrie syys syyskuuta eyl eylül сен сент сентября "
    "сентябрь ruj rujna rujan вер вересня вересень σεπ σεπτ σεπτεμβρίου σεπτέμβριος",
    "oct october okt oktober octobre octubre ott ottobre out outubro paź października "
    "października październik říj října říjen október októbra octombrie loka lokakuuta eki ekim "
    "окт октября октябрь жов жовт жовтня жовтень οκτ οκτωβρίου οκτώβριος",
    "nov november novembre noviembre novembro listopadu novembra noiembrie noi marras marraskuuta "
    "kas kasım ноя нояб ноября ноябрь stu studenoga studenog studeni лис лист листопада листопад "
    "νοε νοέ νοεμβρίου νοέμβριος",
    "dec december dez dezember déc décembre decembre dic diciembre dicembre dezembro gru grudnia "
    "grudzień prosince prosinec decembra decembrie des desember joulu joulukuuta ara aralık дек "
    "декабря декабрь pro prosinca prosinac гру груд грудня грудень δεκ δεκεμβρίου δεκέμβριος",
)
"""Of languages that agree: "lis" is October in Croatian and November in Polish, so it is none."""
MONTHS = {name: i + 1 for i, names in enumerate(_MONTHS) for name in names.split()}
_TELLING = {
    "polish": "sty stycznia lut lutego kwi kwietnia cze czerwca lipca sie sierpnia wrz "
    "września paź października gru grudnia",
    "czech": "led ledna úno února bře března dub dubna kvě května čvn června čvc července srpna "
    "zář září říj října listopadu prosince",
    "croatian": "sij siječnja velj veljače ožu ožujka tra travnja svi svibnja lipnja srpnja kol "
    "kolovoza ruj rujna stu studenoga studenog prosinca",
}
"""Months of one language, which tell those that languages share, but not their meaning."""
_SHARED = {
    "polish": {"lip": "jul", "lis": "nov", "listopad": "nov", "listopada": "nov"},
    "czech": {"srp": "aug", "lis": "nov", "listopad": "nov"},
    "croatian": {
        "lip": "jun",
        "srp": "jul",
        **dict.fromkeys(("lis", "listopad", "listopada"), "oct"),
    },
}
_DAYS = (
    "mon tue tues wed thu thur thurs fri sat sun",
    "monday tuesday wednesday thursday friday saturday sunday",
    "mo di mi do fr sa so montag dienstag mittwoch donnerstag freitag samstag sonntag",
    "lun mar mer jeu ven sam dim lundi mardi mercredi jeudi vendredi samedi dimanche",
    "mié jue vie sáb dom lunes martes miércoles jueves viernes sábado domingo gio sab",
    "lunedì martedì mercoledì giovedì venerdì sabato domenica ma wo vr za zo maandag dinsdag",
    "woensdag donderdag vrijdag zaterdag zondag seg ter qua qui sex",
)
_WEEKDAYS = frozenset(name for names in _DAYS for name in names.split())

_UNTIL = (" - ", " – ", "/", " to ", " bis ")
"""Between the begin and the end of a span of time; ISO 8601 has the slash."""
_WORD = re.compile(r"[^\W\d_]{3,12}")
_ODD_SPACES = "[\u00a0\u202f\u2009\t]"
_LETTERS = r"[^\W\d_]"
_MARK = r"(?P<mark>[-/]|\. ?)"
_YEAR_FIRST = rf"(?P<a>0{{4}}){_MARK}(?P<b>00?)(?P=mark)(?P<c>00?)\.?"
_YEAR_LAST = rf"(?P<a>00?){_MARK}(?P<b>00?)(?P=mark)(?P<c>0{{4}}|00)\.?"
_COMPACT = r"(?P<a>0000)(?P<b>00)(?P<c>00)"
_DAY_NAME_YEAR = (
    rf"(?P<a>00?)(?:\.|st|nd|rd|th|er|º)?[-/ .]*(?:de )?(?P<month>{_LETTERS}{{3,12}})\.?[-/ .,]*"
    r"(?:del? )?(?P<c>0{4}|00)\.?"
)
_NAME_DAY = rf"(?P<month>{_LETTERS}{{3,12}})\.?[-/ .]*(?P<a>00?)(?:st|nd|rd|th)?"
_NAME_DAY_YEAR = _NAME_DAY + r"[-/ .,]+(?P<c>0{4})"
_YEAR_NAME_DAY = rf"(?P<a>0{{4}})[-/. ] ?(?P<month>{_LETTERS}{{3,12}})\.?[-/ .](?P<c>00?)\.?"
_IN_PICTURES = r"(?P<a>0{4}):(?P<b>00):(?P<c>00)"
"""Of photographs, by the standard Exif."""
_SPACED = r"(?P<a>00?) (?P<b>00?) (?P<c>0{4})"
_EAST_ASIAN = r"(?P<a>0{4})[年년] ?(?P<b>00?)[月월] ?(?P<c>00?)[日일]"
_ORDINAL = r"(?P<a>0{4})-?(?P<of_year>000)"
_WEEK = r"(?P<a>0{4})-?W(?P<week>00)-?(?P<of_week>0)"
_DATES = (
    *(_YEAR_FIRST, _YEAR_LAST, _DAY_NAME_YEAR, _NAME_DAY_YEAR, _YEAR_NAME_DAY, _COMPACT),
    *(_EAST_ASIAN, _WEEK),
)

_FRACTION = r"(?:[.,](?P<fraction>0{1,9}))?"
_COLONS = (
    r"(?P<hour>00?):(?P<minute>00)(?::(?P<second>00)(?:(?::(?=000(?!0))|[.,])"
    r"(?P<fraction>0{1,9}))?)?"
)
_UNPADDED = r"(?P<hour>00?):(?P<minute>00?):(?P<second>00?)(?:[.,](?P<fraction>0{1,9}))?"
"""As programs of a few lines write them; 8:0 alone would be a ratio, too."""
_UNPADDED_MINUTES = r"(?P<hour>00?):(?P<minute>0)"
_DOTS = rf"(?P<hour>00?)\.(?P<minute>00)(?:\.(?P<second>00){_FRACTION})?"
_UNITS = (
    r"(?P<hour>00?) ?h(?: ?(?P<minute>00)(?: ?(?:m|min|:|') ?"
    rf"(?:(?P<second>00){_FRACTION} ?(?:s|sec|'')?)?)?)?"
)
_EAST_ASIAN_CLOCK = (
    rf"(?P<hour>00?)[时時시点點](?: ?(?P<minute>00?)[分분](?: ?(?P<second>00?){_FRACTION}[秒초])?)?"
)
_DIGITS = rf"(?P<hour>00)(?P<minute>00)(?:(?P<second>00){_FRACTION})?"
_DASHES = rf"(?P<hour>00)-(?P<minute>00)-(?P<second>00){_FRACTION}"
_HOUR = r"(?P<hour>00?)"
_CLOCKS = (
    *(_COLONS, _DOTS, _UNITS, _EAST_ASIAN_CLOCK, _DIGITS, _HOUR),
    *(_UNPADDED, _UNPADDED_MINUTES),
)

_WORDS_BETWEEN = "at|à|um|klo|kl|a las?|às|alle|ore|om|o|ob"
# A colon only after a whole year, as in web logs: in "05 Feb 10:00" it belongs to the time.
_BETWEEN = rf"(?: *[T,;_] *| +@ +| +|(?<=[日일])|(?<=0{{4}}):| +- +|,? +(?:{_WORDS_BETWEEN})\.? +)"
_NO_LETTER = rf"(?!{_LETTERS})"
_BEFORE_NOON, _AFTER_NOON = ["上午", "午前", "오전", "ص", "πμ"], ["下午", "午後", "오후", "م", "μμ"]
_HALVES = "|".join((*_BEFORE_NOON, *_AFTER_NOON))
_LETTER = r"[ap](?:\.? ?m)?\.?"
_HALF_FIRST = rf"(?:(?P<half_first>{_HALVES}) *)?"
_HALF = rf"(?: *(?P<half>{_LETTER}{_NO_LETTER}|{_HALVES}))?"
_OCLOCK = rf"(?: ?(?:Uhr|hrs?|hs|uur|u|h|m?secs?|ms){_NO_LETTER}\.?)?"
_ZONE = (
    r"(?: *(?:(?:UTC|GMT)? ?(?P<sign>[-+−])(?P<zone_hour>00?)(?::?(?P<zone_minute>00))?"
    rf"|(?P<zone>{_LETTERS}{{1,5}}))(?: ?\[[^]]*\]| ?\([^)]*\))?)?"
)
_BEHIND = _HALF + _OCLOCK + _ZONE
_WEEKDAY = rf"(?:(?P<weekday>{_LETTERS}{{2,10}})\.?,? +)?"


def _forms() -> Iterator[str]:
    """Yield the forms of times, each as a pattern for shapes."""
    for date in _DATES:
        yield _WEEKDAY + date
        for clock in _CLOCKS:
            yield _WEEKDAY + date + _BETWEEN + _HALF_FIRST + clock + _BEHIND
    yield _COMPACT + "[-T]?" + _DIGITS + _ZONE
    yield _ORDINAL + "(?:T| +)" + _COLONS + _ZONE
    yield _ORDINAL + "(?:T| +)" + _DIGITS + _ZONE
    yield _ORDINAL.replace("-?", "-")
    # As the Unix command "date" writes it.
    yield _WEEKDAY + _NAME_DAY + " +" + _COLONS + _HALF + _ZONE + r" +(?P<c>0{4})"
    for date in _DATES:
        yield _COLONS + _HALF + "[, ] *" + date
    for date in (_IN_PICTURES, _SPACED):
        yield date + " +" + _COLONS + _BEHIND
    # As the names of files have them, in which no colon may stand.
    yield _YEAR_FIRST + "[_T ]" + _DASHES + _ZONE
    # As DB2 writes them.
    yield _YEAR_FIRST + "-" + _DOTS
    for date in (_YEAR_FIRST, _YEAR_LAST, _DAY_NAME_YEAR, _NAME_DAY_YEAR):
        yield r"\[" + _WEEKDAY + date + _BETWEEN + _COLONS + _BEHIND + r"\]"


_FORMS = tuple(_forms())
_TIMES_OF_DAY = tuple(
    _HALF_FIRST + clock + _BEHIND
    for clock in (_COLONS, _DOTS, _UNITS, _EAST_ASIAN_CLOCK, _UNPADDED)
)
_FEWEST_DIGITS = 4
"""In a date, such as 1.1.26."""


@lru_cache(maxsize=128)
def _pattern(text: str) -> re.Pattern[str]:
    """Return the pattern of a form: most files need few of them."""
    return re.compile(rf" *{text} *", re.IGNORECASE)


@dataclass(frozen=True)
class Shape:
    """Where the numbers of a time stand in the cells of one shape.

    Attributes
    ----------
    a, b, c : span or None
        The numbers of the date as they are written; ``b`` is None beside a ``month``.
    hour, minute, second, fraction, zone_hour, zone_minute : span or None
        Of the time of day.
    mark : str
        What separates the numbers of the date.
    of_year, week, of_week : span or None
        The day of the year; or the week and its day, as ISO 8601 counts them.
    month : int or None
        The month, where it has a name.
    half : {"", "a", "p"}
        Of a clock with 12 hours.
    sign : {-1, 0, 1}
        Of the offset from UTC; 0 without one.
    zone : str
        Name of the zone, in lower case; empty if there is none.
    """

    a: Span | None
    b: Span | None
    c: Span | None
    hour: Span | None
    minute: Span | None
    second: Span | None
    fraction: Span | None
    zone_hour: Span | None
    zone_minute: Span | None
    mark: str
    month: int | None
    half: str
    sign: int
    zone: str
    of_year: Span | None = None
    week: Span | None = None
    of_week: Span | None = None

    @property
    def orders(self) -> tuple[Order, ...]:
        """The orders that the numbers of the date may have, the usual one first."""
        if self.a is None or _length(self.a) == 4 or self.c is None:
            return ("ymd",)
        if self.month is not None:
            return ("dmy", "ymd") if _length(self.c) == 2 else ("dmy",)
        return ORDERS if _length(self.c) == 2 else ORDERS[:2]

    def year_of(self, order: Order) -> Span | None:
        """Where the year stands in cells whose date has an order."""
        order = order if order in self.orders or order == "ydm" else self.orders[0]
        return self.a if order in ("ymd", "ydm") else self.c

    @property
    def may_be_ydm(self) -> bool:
        """Whether the day may stand between the year and the month, which is odd."""
        return self.orders == ("ymd",) and None not in (self.b, self.c) and bool(self.mark)

    @property
    def is_date(self) -> bool:
        """Whether there is no time of day."""
        return self.hour is None

    @property
    def is_zoned(self) -> bool:
        """Whether the cell says how far it is from UTC."""
        return self.sign != 0 or bool(self.zone)


@dataclass(frozen=True)
class Written:
    """Times as they were read.

    Attributes
    ----------
    times : ndarray of int64 of shape (n_cells,)
        In microseconds since 1970; in UTC where the cell names a zone, else as the cell has it.
    is_zoned : ndarray of bool of shape (n_cells,)
        Whether the cell names a zone.
    is_wrong : ndarray of bool of shape (n_cells,)
        Whether the cell holds no time; its entry in ``times`` is 0.
    orders : frozenset of str
        The orders that the numbers of dates may have, where there are several.
    """

    times: NDArray[np.int64]
    is_zoned: NDArray[np.bool_]
    is_wrong: NDArray[np.bool_]
    orders: frozenset[Order] = frozenset()

    @classmethod
    def of(cls, parts: list[Written]) -> Written:
        """Return the parts as one."""
        return cls(
            np.concatenate([part.times for part in parts] or [np.empty(0, np.int64)]),
            np.concatenate([part.is_zoned for part in parts] or [np.empty(0, np.bool_)]),
            np.concatenate([part.is_wrong for part in parts] or [np.empty(0, np.bool_)]),
            frozenset().union(*(part.orders for part in parts)),
        )


@lru_cache(maxsize=4096)
def shape_of(text: str) -> Shape | None:
    """Return where the numbers stand in cells of a shape; None if those are no times."""
    if text.count("0") < _FEWEST_DIGITS:
        return None
    for form in _FORMS:
        if (match := _pattern(form).fullmatch(text)) and (shape := _shape(match)):
            return shape
    return _begin_of(text)


def _begin_of(text: str) -> Shape | None:
    """Return where the begin of a span of time stands, such as "00:00/01:00" on two dates."""
    for mark in _UNTIL:
        first, between, second = text.partition(mark)
        if between and (begin := shape_of(first)) and (end := shape_of(second)):
            return begin if begin.is_date == end.is_date else None
    return None


@lru_cache(maxsize=4096)
def is_time_of_day(text: str) -> bool:
    """Return whether cells of a shape hold a time of day alone."""
    return any(_pattern(form).fullmatch(text) for form in _TIMES_OF_DAY)


def halves_of_days(cells: Iterable[str], *, of_one_letter: bool) -> bool:
    """Return whether all cells say nothing but the half of a day, such as AM and p.m.; or A."""
    letters = {*_BEFORE_NOON, *_AFTER_NOON}
    found = {cell.strip().lower() for cell in cells}
    return bool(found) and all(
        half in letters or re.fullmatch(r"[ap]\.? ?m\.?" if not of_one_letter else _LETTER, half)
        for half in found
    )


def shape_text(cell: str) -> str:
    """Return the shape of one cell."""
    return re.sub("[0-9]", "0", _plain_spaces(cell))


def shapes(cells: pa.Array) -> tuple[NDArray[np.int32], list[str]]:
    """Return the shapes of cells.

    Parameters
    ----------
    cells : pyarrow.StringArray of shape (n_cells,)
        Text.

    Returns
    -------
    codes : ndarray of int32 of shape (n_cells,)
        Which shape each cell has; -1 for an empty one.
    texts : list of str
        The shapes.
    """
    import pyarrow as pa

    data, offsets = bytes_of(cells)
    is_digit = (data >= ord("0")) & (data <= ord("9"))
    same = np.where(is_digit, np.uint8(ord("0")), data)
    masked = pa.StringArray.from_buffers(len(cells), pa.py_buffer(offsets), pa.py_buffer(same))
    encoded = masked.dictionary_encode()
    codes: NDArray[np.int32] = encoded.indices.to_numpy(zero_copy_only=False).copy()
    codes[cells.is_null().to_numpy(zero_copy_only=False)] = -1
    return codes, encoded.dictionary.to_pylist()


def as_text(cells: pa.Array) -> pa.Array:
    """Return cells as a plain StringArray, with plain spaces."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    cells = cells.cast(pa.string())
    data, _ = bytes_of(cells)
    if ((data >= 128) | (data == ord("\t"))).any():
        # Newer libraries put a narrow space before AM and PM.
        cells = pc.replace_substring_regex(cells, _ODD_SPACES, " ")
    return cells


def shared_months(cells: Iterable[str]) -> dict[str, str]:
    """Return what months mean that several languages share, by the other months of a column."""
    words = frozenset(word for cell in cells for word in _WORD.findall(cell.lower()))
    if not words:
        return {}
    told = [name for name, months in _TELLING.items() if not words.isdisjoint(months.split())]
    return _SHARED[told[0]] if len(told) == 1 else {}


def means_several_months(cell: str) -> bool:
    """Return whether a cell has a month that is another one in another language."""
    words = frozenset(_WORD.findall(cell.lower()))
    return any(not words.isdisjoint(months) for months in _SHARED.values())


def in_english(cells: pa.Array, months: Mapping[str, str]) -> pa.Array:
    """Return text with the names of months replaced, as ``shared_months`` has them."""
    import pyarrow.compute as pc

    for name, english in months.items():
        word = rf"(?i)(^|[^\pL]){name}($|[^\pL])"
        cells = pc.replace_substring_regex(cells, word, rf"\1{english}\2")
    return cells


def told_in_english(cells: list[str]) -> list[str]:
    """Return cells of a column with English months where its others tell what they mean."""
    import pyarrow as pa

    months = shared_months(cells)
    if not months:
        return cells
    replaced: list[str] = in_english(pa.array(cells, pa.string()), months).to_pylist()
    return replaced


def pieces(cells: pa.Array | pa.ChunkedArray) -> Iterator[pa.Array]:
    """Yield the cells in arrays of at most ``AT_A_TIME``."""
    for chunk in getattr(cells, "chunks", [cells]):
        for begin in range(0, len(chunk), AT_A_TIME):
            yield chunk.slice(begin, AT_A_TIME)


def read_written(cells: pa.Array, order: Order, zones: Mapping[str, int] = OFFSETS) -> Written:
    """Read the times in cells.

    Parameters
    ----------
    cells : pyarrow.Array of text of shape (n_cells,)
        Text.
    order : {"dmy", "mdy", "ymd", "ydm"}
        What the numbers of a date mean, in those shapes that leave it open.
    zones : mapping
        Minutes ahead of UTC by the name of a zone, in lower case.
    """
    if len(cells) and order != "ydm" and (quick := _iso(cells)) is not None:
        return quick
    cells = as_text(cells)
    data, offsets = bytes_of(cells)
    codes, texts = shapes(cells)
    known = [shape for text in texts if (shape := shape_of(text))]
    read = Written(
        times=np.zeros(len(cells), np.int64),
        is_zoned=np.zeros(len(cells), np.bool_),
        is_wrong=np.ones(len(cells), np.bool_),
        orders=frozenset().union(*(shape.orders for shape in known if len(shape.orders) > 1)),
    )
    for code, rows in _rows_by(codes, len(texts)):
        shape = shape_of(texts[code])
        if shape is None or (shape.zone and shape.zone not in zones):
            continue
        times, fits = _read_shape(data, offsets[:-1][rows], shape, order, zones)
        read.times[rows] = np.where(fits, times, 0)
        read.is_zoned[rows] = shape.is_zoned
        read.is_wrong[rows] = ~fits
    return read


def _iso(cells: pa.Array) -> Written | None:
    """Read ISO 8601; None unless all cells have it, either all with a zone or all without."""
    import pyarrow as pa

    # A cast that fails takes seconds, since it words an error for each cell.
    some = cells.take(pa.array(np.unique(np.linspace(0, len(cells) - 1, 64).astype(int))))
    for zone in (None, "UTC"):
        try:
            some.cast(pa.timestamp("us", zone))
            times = cells.cast(pa.timestamp("us", zone))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        is_wrong = times.is_null().to_numpy(zero_copy_only=False)
        values = times.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        return Written(values, np.full(len(cells), zone is not None), is_wrong)
    return None


def _shape(match: re.Match[str]) -> Shape | None:
    """Return the shape of a match; None if a word in it is no month or no day of the week."""
    found = match.groupdict()
    name, weekday = found.get("month"), found.get("weekday")
    month = MONTHS.get(name.lower()) if name else None
    if (name and month is None) or (weekday and weekday.lower() not in _WEEKDAYS):
        return None

    def span(group: str) -> Span | None:
        if found.get(group) is None:
            return None
        begin, end = match.span(group)
        first = len(match.string[:begin].encode())
        return first, first + end - begin

    sign = found.get("sign") or ""
    half = (found.get("half") or found.get("half_first") or "").lower()
    return Shape(
        a=span("a"),
        b=span("b"),
        c=span("c"),
        hour=span("hour"),
        minute=span("minute"),
        second=span("second"),
        fraction=span("fraction"),
        zone_hour=span("zone_hour"),
        zone_minute=span("zone_minute"),
        mark=(found.get("mark") or "").strip(),
        month=month,
        half="a" if half in _BEFORE_NOON else "p" if half in _AFTER_NOON else half[:1],
        sign=0 if not sign else 1 if sign == "+" else -1,
        zone=(found.get("zone") or "").lower(),
        of_year=span("of_year"),
        week=span("week"),
        of_week=span("of_week"),
    )


def _read_shape(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    shape: Shape,
    order: Order,
    zones: Mapping[str, int],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read the cells of one shape: their times in microseconds, and which of them are times."""

    def number(span: Span | None) -> NDArray[np.int64]:
        value = np.zeros(len(starts), np.int64)
        for place in range(*(span or (0, 0))):
            value *= 10
            value += data[starts + place] - np.uint8(ord("0"))
        return value

    days, fits = _days(shape, order, number)
    hour, minute, second = number(shape.hour), number(shape.minute), number(shape.second)
    fits &= (minute < 60) & (second < 60)
    if shape.half:
        # In Japan, noon is 0 hours in the afternoon.
        fits &= hour <= 12
        hour = hour % 12 + (12 if shape.half == "p" else 0)
    # 24:00 is how some write the end of a day.
    fits &= (hour < 24) | ((hour == 24) & (minute == 0) & (second == 0))
    times = days * DAY + hour * HOUR + minute * MINUTE + second * SECOND
    if shape.fraction:
        begin, end = shape.fraction[0], min(shape.fraction[1], shape.fraction[0] + 6)
        times += number((begin, end)) * 10 ** (6 - (end - begin))

    if shape.zone:
        times -= zones[shape.zone] * MINUTE
    elif shape.sign:
        ahead = number(shape.zone_hour) * 60 + number(shape.zone_minute)
        fits &= (ahead <= 14 * 60) & (number(shape.zone_minute) < 60)
        times -= shape.sign * ahead * MINUTE
    return times, fits


def _days(
    shape: Shape, order: Order, number: Numbers
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the days since 1970, and which of them exist."""
    if shape.week is not None:
        return _days_of_weeks(number(shape.a), number(shape.week), number(shape.of_week))
    if shape.of_year is not None:
        year, day = number(shape.a), number(shape.of_year)
        first = (year - 1970).astype("M8[Y]")
        length = (first + 1).astype("M8[D]") - first.astype("M8[D]")
    else:
        year, month, day = _date(shape, order, number)
        first = ((year - 1970) * 12 + month - 1).astype("M8[M]")
        length = (first + 1).astype("M8[D]") - first.astype("M8[D]")
    fits = (day >= 1) & (day <= length.astype(np.int64))
    if shape.of_year is None:
        fits &= (month >= 1) & (month <= 12)
    return first.astype("M8[D]").astype(np.int64) + day - 1, fits


def _days_of_weeks(
    year: NDArray[np.int64], week: NDArray[np.int64], day: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the days since 1970 of the weeks of ISO 8601, whose first has 4 January."""
    fourth = (year - 1970).astype("M8[Y]").astype("M8[D]").astype(np.int64) + 3
    # 1 January 1970 was a Thursday.
    monday = fourth - (fourth + 3) % 7 + 7 * (week - 1)
    thursday = (monday + 3).astype("M8[D]").astype("M8[Y]").astype(np.int64) + 1970
    return monday + day - 1, (week >= 1) & (day >= 1) & (day <= 7) & (thursday == year)


def _date(
    shape: Shape, order: Order, number: Numbers
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return year, month and day."""
    if order not in shape.orders and not (order == "ydm" and shape.may_be_ydm):
        order = shape.orders[0]
    a, b, c = number(shape.a), number(shape.b), number(shape.c)
    if shape.month is not None:
        b[:] = shape.month
    year, month, day = {
        "dmy": (c, b, a),
        "mdy": (c, a, b),
        "ymd": (a, b, c),
        "ydm": (a, c, b),
    }[order]
    span = shape.year_of(order)
    if span is not None and _length(span) == 2:
        # As POSIX has it.
        year = year + np.where(year < 69, 2000, 1900)
    return year, month, day


def _rows_by(
    codes: NDArray[np.int32], n_codes: int
) -> Iterator[tuple[int, NDArray[np.int64] | slice]]:
    """Yield each code with its rows."""
    if n_codes == 1 and (codes == 0).all():
        yield 0, slice(None)
        return
    rows = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[rows], np.arange(n_codes + 1))
    for code in range(n_codes):
        yield code, rows[bounds[code] : bounds[code + 1]]


def bytes_of(cells: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return the bytes of text, and where each cell begins, with the end of the last one."""
    if len(cells) == 0:
        return np.zeros(0, np.uint8), np.zeros(1, np.int32)
    _, offsets, data = cells.buffers()
    begins = np.frombuffer(offsets, np.int32)[cells.offset : cells.offset + len(cells) + 1]
    held = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return held[begins[0] : begins[-1]], begins - begins[0]


def text_bytes(cells: pa.Array) -> NDArray[np.uint8]:
    """Return all bytes of a StringArray."""
    return bytes_of(cells)[0]


def _plain_spaces(cell: str) -> str:
    return re.sub(_ODD_SPACES, " ", cell)


def _length(span: Span) -> int:
    return span[1] - span[0]
