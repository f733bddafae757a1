"""A simulated pump test bench: recordings for the demo when no real data are available.

A centrifugal pump on a variable-speed drive moves water round a closed loop: tank, strainer,
pump, outlet valve, cooler, tank. A drifting speed sets the operating point, the ambient
temperature oscillates, and all eight sensors follow.

- Hydraulics: the head, ``speed**2 * shut-off head - k * flow**2``, obeys the affinity laws (flow
  as speed, head as its square, power as its cube); losses in the loop grow with ``flow**2`` [1]_.
- Cavitation: once the inlet pressure is below what the impeller needs (NPSH required, which
  grows with ``speed**2``), vapour bubbles collapse in bursts, at a rate proportional to the
  shortfall [1]_ [2]_.
- Vibration: a Gaussian mixture, with impacts for a share of the time. Its variance gives the rms,
  its fourth moment the kurtosis. Few short impacts raise the kurtosis before the rms, an early
  sign of bearing damage; as the damage spreads, the kurtosis falls back [3]_.
- Heat: first-order lags; the cooler removes heat with ``flow**0.8`` (turbulent) [4]_.

References
----------
.. [1] Gülich, J. F. (2020). Centrifugal Pumps, 4th ed. Springer.
.. [2] Brennen, C. E. (1994). Hydrodynamics of Pumps. Concepts ETI and Oxford University Press.
.. [3] Dyer, D. and Stewart, R. M. (1978). Detection of Rolling Element Bearing Damage by
   Statistical Vibration Analysis. Journal of Mechanical Design, 100(2), 229-235.
.. [4] Incropera, F. P. et al. (2007). Fundamentals of Heat and Mass Transfer, 6th ed. Wiley.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sensor:
    """A sensor of the bench."""

    name: str
    unit: str
    description: str


SENSORS: tuple[Sensor, ...] = (
    Sensor("vibration_rms", "mm/s", "vibration velocity of the bearing housing, rms"),
    Sensor("vibration_kurtosis", "1", "kurtosis of that vibration, 3 for a sound bearing"),
    Sensor("bearing_temperature", "degC", "outer ring of the drive-end bearing"),
    Sensor("fluid_temperature", "degC", "water in the loop"),
    Sensor("inlet_pressure", "bar", "absolute pressure before the pump"),
    Sensor("outlet_pressure", "bar", "absolute pressure after the pump"),
    Sensor("flow_rate", "L/min", "volume flow round the loop"),
    Sensor("motor_current", "A", "phase current of the motor, rms"),
)
FEATURE_NAMES: tuple[str, ...] = tuple(sensor.name for sensor in SENSORS)
FAULTS: tuple[str, ...] = ("valve_closing", "cavitation", "bearing_wear", "stuck_sensor")

# In the order of SENSORS: noise as a share of the reading, and its correlation time.
_NOISE_SHARE = np.array([0.03, 0.03, 0.004, 0.004, 0.008, 0.006, 0.008, 0.01])
_NOISE_MEMORY_S = np.array([3.0, 3.0, 4.0, 4.0, 1.0, 1.0, 2.0, 1.0])

_BUILD_UP_S = {"valve_closing": 150.0, "cavitation": 300.0, "bearing_wear": 450.0}
_WARM_UP_S = 3600.0
_START = np.datetime64("2026-01-05T08:00", "ms")


@dataclass(frozen=True, eq=False)
class Recording:
    """Readings of the bench, oldest first.

    Attributes
    ----------
    data : ndarray of shape (n_samples, 8)
        One column per sensor, in the order and the units of ``SENSORS``.
    labels : ndarray of shape (n_samples,)
        1 from the onset of the fault, else 0.
    timestamps : ndarray of shape (n_samples,)
        ``datetime64[ms]``, starting at 2026-01-05T08:00.
    feature_names : tuple of str
        Names of the columns.
    fault : str or None
        One of ``FAULTS``; None for a healthy machine.
    """

    data: Floats
    labels: NDArray[np.int64]
    timestamps: NDArray[np.datetime64]
    feature_names: tuple[str, ...]
    fault: str | None


def healthy(n_samples: int = 2000, *, seed: int = 0, sampling_period_s: float = 1.0) -> Recording:
    """Record the healthy machine at operating temperature.

    Parameters
    ----------
    n_samples : int
        Number of readings, at least 1.
    seed : int
        The same seed gives the same bytes; a longer recording begins with the shorter one.
    sampling_period_s : float
        Time between two readings in seconds, from 0.01 to 3600.

    Raises
    ------
    InvalidDataError
        A ``ValueError``: a parameter is out of its range.
    """
    return _record(n_samples, seed, sampling_period_s)


def faulty(
    fault: str,
    n_samples: int = 1200,
    *,
    onset: int = 600,
    seed: int = 1,
    severity: float = 1.0,
    sampling_period_s: float = 1.0,
    sensor: str = "flow_rate",
) -> Recording:
    """Record the machine with a fault that builds up from ``onset``.

    Before the onset, the recording equals the healthy one of the same seed, byte for byte.

    Parameters
    ----------
    fault : str
        ``valve_closing``, the outlet valve closes over 150 s; ``cavitation``, the strainer
        before the pump clogs over 300 s; ``bearing_wear``, a raceway spalls over 450 s;
        ``stuck_sensor``, one sensor repeats its last healthy reading.
    n_samples : int
        Number of readings.
    onset : int
        Row of the first faulty reading, from 1 to ``n_samples - 1``.
    seed : int
        The same seed gives the same bytes.
    severity : float
        Final severity, above 0 and up to 1. Ignored for a stuck sensor.
    sampling_period_s : float
        As for ``healthy``.
    sensor : str
        The sensor that sticks, one of ``FEATURE_NAMES``; ignored for the other faults.

    Raises
    ------
    InvalidDataError
        A ``ValueError``: a parameter is unknown or out of its range.
    """
    _require(fault in FAULTS, "fault", f"{fault!r} is unknown.", _one_of(FAULTS))
    _require(sensor in FEATURE_NAMES, "sensor", f"{sensor!r} is unknown.", _one_of(FEATURE_NAMES))
    message = f"{severity} is out of range."
    _require(0 < severity <= 1, "severity", message, "Use a number above 0, at most 1.")
    message = f"{onset} does not split {n_samples} readings into healthy and faulty ones."
    _require(0 < onset < n_samples, "onset", message, "Use 1 to n_samples - 1, or more samples.")
    recording = _record(n_samples, seed, sampling_period_s, fault, onset, severity)
    if fault == "stuck_sensor":
        column = FEATURE_NAMES.index(sensor)
        recording.data[onset:, column] = recording.data[onset - 1, column]
    return recording


def _record(
    n: int, seed: int, period: float, fault: str | None = None, onset: int = 0, severity: float = 0
) -> Recording:
    _require(n >= 1, "n_samples", f"{n} is out of range.", "Use at least 1.")
    message = f"{period} is out of range."
    _require(0.01 <= period <= 3600, "sampling_period_s", message, "Use 0.01 to 3600 seconds.")
    warm_up = int(np.ceil(_WARM_UP_S / period))
    seconds = period * np.arange(-warm_up, n)
    # A separate generator for the bursts, and noise drawn row by row, keep every reading
    # independent of later ones.
    rng, bursts = np.random.default_rng(seed).spawn(2)
    phase = rng.uniform(0, 2 * np.pi)
    white = rng.standard_normal((len(seconds), 1 + len(SENSORS)))
    speed = 1 + 0.015 * _noise(white[:, 0], 15.0, period)
    ambient = 25 + 0.8 * np.sin(2 * np.pi * seconds / 480 + phase)

    progress: dict[str, Floats | float] = dict.fromkeys(_BUILD_UP_S, 0.0)
    if fault in _BUILD_UP_S:
        since_onset = seconds - period * (onset - 1)
        progress[fault] = severity * np.clip(since_onset / _BUILD_UP_S[fault], 0, 1)
    truth = _bench(speed, ambient, bursts, period, **progress)
    data = truth * (1 + _NOISE_SHARE * _noise(white[:, 1:], _NOISE_MEMORY_S, period))

    labels = (np.arange(n) >= (onset if fault else n)).astype(np.int64)
    timestamps = _START + np.round(1000 * period * np.arange(n)).astype("timedelta64[ms]")
    return Recording(data[warm_up:], labels, timestamps, FEATURE_NAMES, fault)


def _bench(
    speed: Floats,
    ambient: Floats,
    bursts: np.random.Generator,
    period: float,
    *,
    valve_closing: Floats | float,
    cavitation: Floats | float,
    bearing_wear: Floats | float,
) -> Floats:
    """Return readings without noise; speed, flow and power are relative to nominal."""
    inlet_loss = 0.15 * (1 + 5 * cavitation)
    outlet_loss = 1.85 / (1 - 0.65 * valve_closing) ** 2
    flow = speed * np.sqrt(2.6 / (0.6 + inlet_loss + outlet_loss))

    shortfall = np.maximum(0.8 * speed**2 - (1.2 - inlet_loss * flow**2), 0)
    impacts = bursts.poisson(0.7 * shortfall * period).astype(float)
    vapour = 1 - np.exp(-_leaky_sum(impacts, np.exp(-period / 4.0)))
    flow = flow * (1 - 0.15 * vapour)

    # Faults never overlap, so the contributions of both to share and strength can be summed.
    spalled = 0.3 * bearing_wear**2
    share = spalled + 0.25 * vapour
    strength = 1 + 5 * bearing_wear + 3 * vapour
    variance = 1 + share * (strength**2 - 1)
    fourth_moment = 3 * (1 + share * (strength**4 - 1))
    part_load = 1 + (1 - flow / speed) ** 2

    power = speed**3 * (0.5 + 0.5 * flow / speed) + 0.2 * spalled
    fluid = _lag(ambient + 8 * power / flow**0.8, 150.0, period)
    bearing = _lag((ambient + fluid) / 2 + 15 * speed + 30 * spalled, 240.0, period)

    readings = {
        "vibration_rms": 1.8 * speed**2 * part_load * np.sqrt(variance),
        "vibration_kurtosis": fourth_moment / variance**2,
        "bearing_temperature": bearing,
        "fluid_temperature": fluid,
        "inlet_pressure": 1.2 - inlet_loss * flow**2,
        "outlet_pressure": 1.2 + outlet_loss * flow**2,
        "flow_rate": 100 * flow,
        "motor_current": np.hypot(0.9, 1.5 * power / speed),
    }
    return np.column_stack([readings[name] for name in FEATURE_NAMES])


def _noise(white: Floats, memory_s: float | Floats, period: float) -> Floats:
    """Ornstein-Uhlenbeck process of unit variance and correlation time ``memory_s``."""
    decay = np.exp(-period / memory_s)
    return _leaky_sum(np.sqrt(1 - decay**2) * white, decay)


def _lag(target: Floats, time_constant_s: float, period: float) -> Floats:
    """First-order lag behind ``target``."""
    decay = np.exp(-period / time_constant_s)
    return _leaky_sum((1 - decay) * target, decay)


def _leaky_sum(inputs: Floats, decay: float | Floats) -> Floats:
    """Leaky sum down the rows, from zero."""
    outputs = np.empty_like(inputs)
    level = np.zeros(inputs.shape[1:])
    for row, value in enumerate(inputs):
        outputs[row] = level = decay * level + value
    return outputs


def _require(holds: bool, field: str, message: str, remedy: str) -> None:
    if not holds:
        raise InvalidDataError(message, field=field, remedy=remedy)


def _one_of(names: tuple[str, ...]) -> str:
    return f"Use one of {', '.join(names)}."
