"""Figures side by side with peers: measured in turns, told as one line each, kept as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

LIBRARIES = ("numpy", "numba", "scikit-learn", "pyod", "torch", "mlflow", "fastapi")


@dataclass(frozen=True)
class Spread:
    """The median of several runs, and the smallest and the largest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))

    def scaled(self, factor: float) -> Spread:
        return Spread(self.median * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}–{self.high:.3g})"


@dataclass(frozen=True)
class Figure:
    """One thing measured, of ours and of a peer.

    Attributes
    ----------
    name : str
        What was measured, such as 'Isolation Forest, one row'.
    unit : str
        Of ``ours`` and ``peer``.
    ours : Spread
    peer : Spread or None
        None where ``goal`` is a limit in ``unit`` instead of a ratio.
    peer_name : str
    ratio : Spread or None
        How many times better ours is, run by run.
    goal : float or None
        What was to be reached: a ratio, or without a peer an upper limit in ``unit``.
    note : str
        What a reader must know, such as the share of an extrapolation.
    """

    name: str
    unit: str
    ours: Spread
    peer: Spread | None = None
    peer_name: str = ""
    ratio: Spread | None = None
    goal: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None without one."""
        if self.goal is None:
            return None
        if self.ratio is not None:
            return self.ratio.median >= self.goal
        return self.ours.median <= self.goal

    def __str__(self) -> str:
        head = f"{self.ratio.median:.3g} x {self.peer_name}" if self.ratio else f"{self.ours}"
        parts = [f"{self.name}: {head}"]
        if self.ratio:
            parts.append(f"{self.ours} against {self.peer} {self.unit}")
        else:
            parts[0] += f" {self.unit}"
        if self.goal is not None:
            limit = f"{self.goal:.3g} x" if self.ratio else f"at most {self.goal:g} {self.unit}"
            parts.append(f"goal {limit}: {'reached' if self.reached else 'NOT REACHED'}")
        return "; ".join([*parts, *([self.note] if self.note else [])])


def seconds(run: Callable[[], Any], repeat: int = 1) -> float:
    """Return how long one call takes, of ``repeat`` calls in a row."""
    started = time.perf_counter()
    for _ in range(repeat):
        run()
    return (time.perf_counter() - started) / repeat


def compare(
    name: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    *,
    peer_name: str,
    goal: float | None = None,
    runs: int = 7,
    repeat: tuple[int, int] = (1, 1),
    unit: str = "ms",
    note: str = "",
) -> Figure:
    """Time two ways to one result in turns: ours, the peer, ours, the peer ...

    Parameters
    ----------
    name : str
        What is measured.
    ours, peer : callable
        Each does the whole thing once; the first call of each is not counted.
    peer_name : str
        Who the peer is.
    goal : float, optional
        The ratio to reach.
    runs : int
        How many turns; the median of their ratios is the figure.
    repeat : tuple of int
        Calls of ours and of the peer in one turn, for what takes microseconds.
    unit : {'s', 'ms', 'us'}
        For the times of one call.
    note : str
        What a reader must know.
    """
    ours(), peer()
    times = [(seconds(ours, repeat[0]), seconds(peer, repeat[1])) for _ in range(runs)]
    factor = {"s": 1.0, "ms": 1e3, "us": 1e6}[unit]
    return Figure(
        name,
        unit,
        Spread.of([mine for mine, _ in times]).scaled(factor),
        Spread.of([theirs for _, theirs in times]).scaled(factor),
        peer_name,
        Spread.of([theirs / mine for mine, theirs in times]),
        goal,
        note,
    )


def within(
    name: str, measured: Sequence[float], *, unit: str, goal: float | None = None, note: str = ""
) -> Figure:
    """Return a figure that stands by itself, with an upper limit as its goal."""
    return Figure(name, unit, Spread.of(measured), goal=goal, note=note)


def as_table(figures: Sequence[Figure]) -> str:
    """Return figures as Markdown, the ratio first."""
    header = ("ratio", "what", "Vigie", "peer", "goal")
    rows = [header, ("---",) * len(header)]
    for figure in figures:
        goal = "–"
        if figure.goal is not None:
            limit = f"{figure.goal:.3g} ×" if figure.ratio else f"≤ {figure.goal:g} {figure.unit}"
            goal = f"{limit}: {'reached' if figure.reached else '**not reached**'}"
        note = f" ({figure.note})" if figure.note else ""
        rows.append(
            (
                f"**{figure.ratio.median:.3g}** ×" if figure.ratio else "–",
                figure.name + note,
                f"{figure.ours} {figure.unit}",
                f"{figure.peer_name}: {figure.peer} {figure.unit}" if figure.peer else "–",
                goal,
            )
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


@cache
def machine() -> str:
    """Return where figures are measured, and with which libraries."""
    cpu = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        named = re.search(r"(?m)^model name\s*:\s*(.+)$", facts.read_text(encoding="utf-8"))
        cpu = named[1] if named else cpu
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"{cpu}, {os.cpu_count()} cores; {libraries}"


def filled(text: str, name: str, block: str) -> str:
    """Return a document with a block between the comments that bear its name.

    Raises
    ------
    LookupError
        If the document has no such place.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise LookupError(f"The document has no place for {name}: {start}{end}")
    return f"{before}{start}\n{block}\n\n{end}{after}"


def keep(path: Path, part: str, figures: Sequence[Figure]) -> None:
    """Write the figures of one part into a JSON file, beside those of others."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known[part] = {"machine": machine(), "figures": [asdict(figure) for figure in figures]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=1), encoding="utf-8")


def peak_kb(pid: int) -> int:
    """Return the largest memory that a process has had."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    return int(found[1]) if found else 0
