"""What was understood of a table, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vigie.tables.kinds import Kind

if TYPE_CHECKING:
    from vigie.tables.report import ColumnReport, Report, TimeReport

MOST_NAMED = 3
PLURALS = {Kind.SWITCH: "switches", Kind.IDENTIFIER: "identifiers", Kind.TEXT: "columns of text"}
SINGULARS = {Kind.TEXT: "column of text", Kind.EMPTY: "empty column"}


def summary(report: Report) -> list[str]:
    """Return what matters most of a table, in three to six sentences."""
    lines = [_of_file(report), _of_columns(report)]
    if report.time is not None:
        lines.append(_of_time(report.time))
    elif report.n_rows:
        lines.append("No column holds the time: rows count as evenly spaced")
    if report.by is not None:
        lines.append(_of_assets(report))
    if report.features:
        lines.append(_of_faults(report))
    return [f"{line}." for line in lines]


def remarks(report: Report) -> Iterator[str]:
    """Yield what to know and what may be done, with the options that do it in words.

    An option is given by name alone where a column follows, which the caller quotes.
    """
    yield from (f"{note.removesuffix('.')}." for note in report.notes)
    for column in report.columns:
        longest = column.longest_frozen
        if longest is not None:
            whose = f" of {longest.asset}" if longest.asset is not None else ""
            more = f", and {len(column.frozen) - 1} times more" if len(column.frozen) > 1 else ""
            yield (
                f"{column.name} is frozen: it holds {longest.value:g} for {longest.n_rows} rows "
                f"from row {longest.first + 1}{whose}{more}."
            )


def _of_file(report: Report) -> str:
    origin = report.origin
    said = [report.description or "A table"]
    if origin is not None and origin.decimal is not None and report.n_rows:
        said.append(f"decimal {'comma' if origin.decimal == ',' else 'point'}")
    if origin is not None and origin.packing is not None:
        said.append(f"packed by {origin.packing}")
    n_columns = len(report.columns) + (report.by is not None)
    return (
        f"{report.name}: {', '.join(said)}; {counted(report.n_rows, 'row')} of "
        f"{counted(n_columns, 'column')}"
    )


def _of_columns(report: Report) -> str:
    features = Counter(column.kind for column in report.columns if column.is_feature)
    others = Counter(column.kind for column in report.left_out)
    if report.by is not None:
        others[Kind.IDENTIFIER] += 1
    if not report.n_rows:
        return "It has names, but no rows yet: there is nothing to learn or to judge"
    learnt = _kinds(features)
    left_out = _kinds(others)
    text = f"A model learns {learnt}" if learnt else "No column holds readings"
    return f"{text}; {left_out} left out" if left_out else text


def _of_time(time: TimeReport) -> str:
    zone = "" if time.zone == "in the file" or time.zone in time.written else f", {time.zone}"
    text = f"Time: {' and '.join(time.columns)} ({time.written}{zone}), {_span(time)}"
    if time.step_s is not None:
        usual = "a row every" if time.is_regular else "rows come irregularly, mostly every"
        step = words_of(time.step_s)
        if time.longer_step_s is not None:
            longest = words_of(time.longer_step_s)
            step = f"{step.removesuffix(longest[longest.index(' ') :])} to {longest}"
        text += f", {usual} {step}"
    gap = time.longest_gap
    if gap is None:
        text += "; no gap"
    else:
        whose = f" of {gap.asset}" if gap.asset is not None else ""
        text += (
            f"; {counted(time.n_gaps, 'gap')}, the longest {words_of(gap.seconds)} after row "
            f"{gap.row + 1}{whose} ({_short(gap.begin)})"
        )
    if time.n_repeated:
        text += f"; {counted(time.n_repeated, 'row')} with the time of the row before"
    return text


def _span(time: TimeReport) -> str:
    begin, end = _short(time.begin), _short(time.end)
    if begin[:10] == end[:10]:
        end = end[11:]
    return f"{begin} to {end} UTC ({words_of(time.span_s)})"


def _of_assets(report: Report) -> str:
    sizes = sorted(report.assets.values())
    rows = f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {sizes[-1]:,}"
    return f"{report.by} tells {counted(len(sizes), 'machine')} apart, with {rows} rows each"


def _of_faults(report: Report) -> str:
    features = report.features
    n_missing = sum(column.n_missing for column in features)
    text = "No value is missing"
    if any(column.n_missing for column in report.columns):
        text = "No value of a sensor is missing"
    if n_missing:
        worst = max(features, key=lambda column: column.n_missing)
        share = n_missing / (report.n_rows * len(features))
        text = (
            f"{counted(n_missing, 'value')} ({percent(share)}) missing, most in {worst.name} "
            f"({percent(worst.missing_share)})"
        )
    frozen = [column for column in features if column.frozen]
    if not frozen:
        return f"{text}, and no sensor is frozen"
    return f"{text}; frozen for a while: {_listed(frozen)}"


def _listed(columns: Sequence[ColumnReport]) -> str:
    names = ", ".join(column.name for column in columns[:MOST_NAMED])
    more = len(columns) - MOST_NAMED
    return f"{names} and {more} more" if more > 0 else names


def _kinds(kinds: Counter[Kind]) -> str:
    said = [
        f"{n:,} {SINGULARS.get(kind, str(kind)) if n == 1 else _plural(kind)}"
        for kind, n in kinds.items()
    ]
    if len(said) < 2:
        return "".join(said)
    return f"{', '.join(said[:-1])} and {said[-1]}"


def _plural(kind: Kind) -> str:
    return PLURALS.get(kind, f"{SINGULARS.get(kind, str(kind))}s")


def counted(n: int, word: str) -> str:
    """Return a number of things in words, such as "1 row" and "2,000 rows"."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def _short(time: str) -> str:
    return time.removesuffix("Z").replace("T", " ")


def percent(share: float) -> str:
    """Return a share in percent; a small one is never 0."""
    if 0.0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.3g} %"


def words_of(length_s: float) -> str:
    """Return a duration in words, such as "20 min"."""
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if length_s >= 2 * size:
            return f"{length_s / size:.3g} {unit}"
    return f"{length_s:.3g} s" if length_s >= 1 or length_s == 0 else f"{1e3 * length_s:.3g} ms"
