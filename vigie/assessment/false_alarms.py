"""False alarms that are asked for, as a rate for each reading, and what cannot be promised.

An operator counts alarms by time, the evidence on an asset counts readings. The sampling interval
is between them; it comes from the times of the readings. From the rate for each reading to the
limit of the evidence, ``Limits.for_rate`` takes what was measured on healthy machines.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vigie.assessment.status import LOWEST_ALARM, OF_AVERAGES, OF_FORECASTS
from vigie.errors import InvalidDataError

if TYPE_CHECKING:
    from vigie.assessment.ensemble import Ensemble
    from vigie.detectors.base import Floats

MONTH_S = 30 * 86_400.0
"""Thirty days, in seconds."""
FEWEST_ROWS = 2000
"""Rows of a training from which on the rate was measured to hold. After 500, one machine in ten
raises its alarms hundreds of times as often as asked for."""
MOST_COUNTED = 32_768
"""Most held-out scores of a calibration, ``vigie.detectors.training.MOST_CALIBRATED``."""
VARIABLE = "VIGIE_FALSE_ALARMS_PER_MONTH"


def without_times(field: str) -> InvalidDataError:
    """Return the error for rows without times, of which ``field`` should have them."""
    return InvalidDataError(
        f"False alarms are asked for by time ({VARIABLE}), but the rows have no times.",
        field=field,
        remedy="Give when each row was measured (for a file, its column: --time COLUMN), or unset "
        f"{VARIABLE}.",
    )


def per_reading(per_month: float, intervals: Floats) -> Floats:
    """Return false alarms per reading, given those in 30 days and sampling intervals in seconds.

    NaN where the interval is unknown; (n,).
    """
    return per_month * intervals / MONTH_S


def too_short(asked: float | None, n_rows: int) -> str | None:
    """Return why no rate can be promised after a training on so many rows; None if one can be."""
    if asked is None or n_rows >= FEWEST_ROWS:
        return None
    return (
        f"{VARIABLE}={asked:g} is no promise after a training on {n_rows:,} rows: so few do not "
        f"show all that a healthy machine does. Remedy: train on {FEWEST_ROWS:,} rows or more."
    )


def doubt(ensemble: Ensemble, interval_s: float) -> str | None:
    """Return why the false alarms asked for are no promise at an interval; None if they are.

    Three things limit a promise: a short training knows too little of the machine, whatever the
    limit; p-values below ``LOWEST_ALARM`` have no meaning; and those below one in n + 1, for n
    held-out scores of the training, are read off a curve instead of counted.

    Parameters
    ----------
    ensemble : Ensemble
        The models.
    interval_s : float
        Seconds between two readings; NaN if unknown.
    """
    asked = ensemble.false_alarms_per_month
    if asked is None or math.isnan(interval_s):
        return None
    models = ensemble.models.values()
    forecasting = [m.trend for m in models if m.change is not None and m.trend is not None]
    limits = OF_FORECASTS if forecasting else OF_AVERAGES
    deciding = forecasting or [m.trend for m in models if m.trend is not None] or list(models)
    n_scores = max(model.calibration.n_samples for model in deciding)
    limit = asked * interval_s / MONTH_S / limits.false_alarms
    counted = 1.0 / (n_scores + 1)

    def kept_from(limit: float) -> str:
        """Return the remedy: the rate, or the interval, from which on a limit is reached."""
        per_month = limit * limits.false_alarms * MONTH_S / max(interval_s, 1e-6)
        longer = limit * limits.false_alarms * MONTH_S / asked
        return f"ask for {_rounded_up(per_month)} a month, or send means of {_duration(longer)}"

    asks = f"{VARIABLE}={asked:g}, with a reading every {_duration(interval_s)}, asks for"
    if short := too_short(asked, max(model.n_samples for model in models)):
        return short
    if limit < LOWEST_ALARM:
        return (
            f"{asks} evidence beyond one in a million, which no training supports. The limit stays "
            f"at one in a million, and the asset may raise more alarms. Remedy: "
            f"{kept_from(LOWEST_ALARM)}."
        )
    if limit < counted:
        more_rows = ""
        if 1.0 / limit <= MOST_COUNTED:
            more_rows = f"train on some {_rounded_up(1.0 / limit)} rows, "
        return (
            f"{asks} evidence of one in {1.0 / limit:,.0f}, but the training counts one in "
            f"{n_scores + 1:,}. Beyond that the rate rests on the fitted tail of the scores. "
            f"Remedy: {more_rows}{kept_from(counted)}."
        )
    return None


def _rounded_up(number: float) -> str:
    """Return a number rounded up to two digits."""
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return f"{math.ceil(number / unit - 1e-9) * unit:,.12g}"


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
