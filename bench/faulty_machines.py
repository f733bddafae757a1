"""Made-up machines with known faults, for the verdict on the asset in bench/quality.py.

Eight sensors share three causes, so that each can be told from the others, and add a little of
their own. How the machine is run moves all of them. Everything is in standard deviations of a
sensor within its mode or phase, until the units of the sensors are put on at the very end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]
Generator = np.random.Generator

N_SENSORS = 8
TRAIN_ROWS, HEALTHY_ROWS = 2000, 3000
ROWS_BEFORE, FAULTY_ROWS = 300, 400
SHARED = 0.8
"""Share of the variance of a sensor that comes from the shared causes."""
SEASON, CYCLE = 288, 12
"""Rows of a day and of a short cycle."""
LONG_DAY = 2 * TRAIN_ROWS
N_MODES = 3
DWELLS = {"modes, short dwell": (20, 60), "modes, long dwell": (200, 400)}
"""Fewest and most rows that a mode lasts."""

MEMORY = {
    "iid": 0.0,
    "autocorrelated 0.95": 0.95,
    "autocorrelated 0.99": 0.99,
    "season": 0.5,
    "modes, short dwell": 0.5,
    "modes, long dwell": 0.5,
    "cycle of 12 rows": 0.0,
}
"""Patterns of operation, and the autocorrelation of one row with the next within them."""
CYCLIC = "cycle of 12 rows"
DRIFTS = ("drift, one sensor", "drift, all sensors", "half a day trained", "a switch rarely on")
"""Healthy machines that are not tomorrow what they are today."""
DRIFT_MEMORY = 0.5
SWITCHES = ((0.5, 100), (0.5, 40), (0.3, 60), (0.015, 10))
"""Share of the time that each switch is on, and its mean rows at a stretch."""


@dataclass(frozen=True)
class Run:
    """A stretch of operation.

    Attributes
    ----------
    course : ndarray of shape (n, 8)
        What the way of operation asks of each sensor.
    around : ndarray of shape (n, 8)
        What the sensors do around that, with a standard deviation of 1.
    """

    course: Floats
    around: Floats

    @property
    def values(self) -> Floats:
        """Values of the sensors, without units, shape (n, 8)."""
        return self.course + self.around


class Machine:
    """A machine that is run in one way.

    Parameters
    ----------
    pattern : str
        One of ``MEMORY``.
    seed : int
        Seed of the machine and of all that it does.
    """

    def __init__(self, pattern: str, seed: int):
        self.pattern = pattern
        self._seed = (seed, list(MEMORY).index(pattern))
        random = np.random.default_rng(self._seed)
        self._causes = _causes(random)
        self._units = 10.0 ** random.uniform(-1, 2, N_SENSORS)
        self._zero = random.normal(0, 50, N_SENSORS)
        self._swing = random.uniform(2, 4, N_SENSORS)
        self._phase = random.uniform(0, 2 * np.pi, (2, N_SENSORS))
        self._levels = random.normal(0, 4, (N_MODES, N_SENSORS))

    def healthy(self) -> Floats:
        """Return the training rows and the healthy rows after them, (5000, 8)."""
        return self.run(TRAIN_ROWS + HEALTHY_ROWS)

    def run(self, n: int) -> Floats:
        """Return healthy rows, (n, 8)."""
        random = np.random.default_rng((*self._seed, 0))
        return self._with_units(self._run(np.arange(n, dtype=float), random).values)

    def faulty(self, fault: str) -> Floats:
        """Return 300 healthy rows and 400 with a fault of ``faults_of``, (700, 8)."""
        random = np.random.default_rng((*self._seed, 1 + list(ALL_FAULTS).index(fault)))
        clock = random.integers(100_000) + np.arange(ROWS_BEFORE + FAULTY_ROWS, dtype=float)
        if fault in FREQUENCIES:
            clock[ROWS_BEFORE:] += (FREQUENCIES[fault] - 1.0) * np.arange(1, FAULTY_ROWS + 1)
        run = self._run(clock, random)
        values = run.values
        if fault in FAULTS:
            sensor, other = random.permutation(N_SENSORS)[:2]
            new = Run(run.course[ROWS_BEFORE:], self._around(FAULTY_ROWS, random))
            FAULTS[fault](values, sensor, other, new, random)
        return self._with_units(values)

    def _run(self, clock: Floats, random: Generator) -> Run:
        return Run(self._course(clock, random), self._around(len(clock), random))

    def _around(self, n: int, random: Generator) -> Floats:
        return _around(n, self._causes, MEMORY[self.pattern], random)

    def _course(self, clock: Floats, random: Generator) -> Floats:
        if self.pattern in DWELLS:
            return self._levels[_modes(len(clock), DWELLS[self.pattern], random)]
        if self.pattern not in ("season", CYCLIC):
            return np.zeros((len(clock), N_SENSORS))
        turn = 2 * np.pi * clock[:, None] / (CYCLE if self.pattern == CYCLIC else SEASON)
        first, second = np.sin(turn + self._phase[0]), np.sin(2 * turn + self._phase[1])
        return self._swing * (first + 0.3 * second)

    def _with_units(self, values: Floats) -> Floats:
        return self._zero + self._units * values


def faults_of(pattern: str) -> list[str]:
    """Return the names of the faults that a machine of a pattern can have."""
    return list(ALL_FAULTS if pattern == CYCLIC else FAULTS)


def drifting(kind: str, seed: int) -> Floats:
    """Return training rows and the rows after them of a healthy machine, one of ``DRIFTS``.

    Returns
    -------
    ndarray of shape (5000, 8)
        (5000, 12) with switches: each of the last four columns is 0 or 1, and moves one sensor.
    """
    random = np.random.default_rng((seed, len(MEMORY) + DRIFTS.index(kind)))
    n = TRAIN_ROWS + HEALTHY_ROWS
    values = _around(n, _causes(random), DRIFT_MEMORY, random)
    moved = np.arange(n)[:, None] / TRAIN_ROWS
    if kind == "drift, one sensor":
        values[:, :1] += moved
    elif kind == "drift, all sensors":
        values += moved * random.choice([-1.0, 1.0], N_SENSORS)
    elif kind == "half a day trained":
        turn = 2 * np.pi * np.arange(n)[:, None] / LONG_DAY
        phase = random.uniform(0, 2 * np.pi, N_SENSORS)
        values += random.uniform(2, 4, N_SENSORS) * np.sin(turn + phase)
    else:
        on = np.column_stack([_switched(n, *switch, random) for switch in SWITCHES])
        values[:, : len(SWITCHES)] += 2.0 * on
        values = np.hstack([values, on])
    return values


def _causes(random: Generator) -> Floats:
    """Return how three shared causes and eight own ones make the sensors, (11, 8)."""
    shared = random.standard_normal((3, N_SENSORS))
    shared *= np.sqrt(SHARED) / np.linalg.norm(shared, axis=0)
    return np.vstack([shared, np.sqrt(1.0 - SHARED) * np.eye(N_SENSORS)])


def _around(n: int, causes: Floats, memory: float, random: Generator) -> Floats:
    """Return what sensors do around their course, each with a variance of 1, (n, 8)."""
    news = np.sqrt(1.0 - memory**2) * random.standard_normal((n, len(causes)))
    before = memory * random.standard_normal((1, len(causes)))
    values: Floats = lfilter([1.0], [1.0, -memory], news, axis=0, zi=before)[0]
    return values @ causes


def _modes(n: int, dwell: tuple[int, int], random: Generator) -> NDArray[np.intp]:
    """Return the mode of each row, (n,); each lasts a while, and another one follows."""
    modes, mode = np.empty(0, np.intp), int(random.integers(N_MODES))
    while len(modes) < n:
        modes = np.append(modes, np.full(random.integers(dwell[0], dwell[1] + 1), mode))
        mode = (mode + int(random.integers(1, N_MODES))) % N_MODES
    return modes[:n]


def _switched(n: int, share: float, rows: int, random: Generator) -> Floats:
    """Return whether a switch is on, 0 or 1, (n,)."""
    leaves = {1: 1 / rows, 0: share / (1 - share) / rows}
    on, state = np.empty(n), int(random.random() < share)
    for row in range(n):
        state = 1 - state if random.random() < leaves[state] else state
        on[row] = state
    return on


# Each fault changes values of shape (700, 8) in place, from row 300 on, given a sensor, another
# one, a new run of the 400 rows with the same course, and a generator.
Change = Callable[[Floats, int, int, Run, Generator], None]


def _step(values: Floats, sensor: int, _: int, __: Run, random: Generator, size: float) -> None:
    values[ROWS_BEFORE:, sensor] += size * random.choice([-1.0, 1.0])


def _ramp(values: Floats, sensor: int, _: int, __: Run, random: Generator, size: float) -> None:
    way = size * random.choice([-1.0, 1.0])
    values[ROWS_BEFORE:, sensor] += way * np.arange(1, FAULTY_ROWS + 1) / FAULTY_ROWS


def _stuck(values: Floats, sensor: int, *_: object) -> None:
    values[ROWS_BEFORE:, sensor] = values[ROWS_BEFORE, sensor]


def _noise(values: Floats, sensor: int, _: int, __: Run, random: Generator, size: float) -> None:
    values[ROWS_BEFORE:, sensor] += size * random.standard_normal(FAULTY_ROWS)


def _decoupled(values: Floats, sensor: int, _: int, new: Run, __: Generator) -> None:
    values[ROWS_BEFORE:, sensor] = new.values[:, sensor]


def _gain(values: Floats, sensor: int, *_: object) -> None:
    values[ROWS_BEFORE:, sensor] *= 2.0


def _spikes(values: Floats, sensor: int, _: int, __: Run, random: Generator) -> None:
    hit = random.random(FAULTY_ROWS) < 0.05
    values[ROWS_BEFORE:, sensor] += 8.0 * hit * random.choice([-1.0, 1.0], FAULTY_ROWS)


def _two(values: Floats, sensor: int, other: int, _: Run, random: Generator) -> None:
    values[ROWS_BEFORE:, [sensor, other]] += 2.0 * random.choice([-1.0, 1.0], 2)


FAULTS: Mapping[str, Change] = {
    **{f"step {size}": partial(_step, size=size) for size in (2, 4, 8)},
    **{f"ramp to {size}": partial(_ramp, size=size) for size in (4, 8)},
    "stuck": _stuck,
    **{f"noise + {size}": partial(_noise, size=size) for size in (2, 4)},
    "decoupled": _decoupled,
    "gain × 2": _gain,
    "spikes": _spikes,
    "two sensors": _two,
}
FREQUENCIES: Mapping[str, float] = {"frequency × 1.25": 1.25, "frequency × 2": 2.0}
ALL_FAULTS = (*FAULTS, *FREQUENCIES)
