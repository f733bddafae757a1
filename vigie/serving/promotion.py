"""The rule by which a version in Staging is promoted without anybody's decision."""

from __future__ import annotations

from datetime import timedelta

from vigie.models.comparison import Comparison
from vigie.serving.tally import CHANCE

AT_LEAST = timedelta(days=1)
"""How long versions are compared: machines run differently by day and by night."""
MOST_LEFT_OUT = 0.1
"""Share of the readings that may lack a verdict of either version."""
RULE = (
    "It was compared for a day or longer on enough readings. Beyond chance it calls no more of "
    "them anomalies than the version before, nor than the contamination allows. It raised as many "
    "alarms."
)


def held_back(found: Comparison, contamination: float) -> str | None:
    """Return which part of the rule does not hold; None if the version is to be promoted.

    Parameters
    ----------
    found : Comparison
        Of the version in Staging with the one that serves.
    contamination : float
        The share of healthy readings that may be called anomalies.
    """
    champion, challenger, n = found.champion, found.challenger, found.readings
    left_out = found.abstained + found.dropped
    is_above = found.chance is not None and found.chance <= CHANCE
    if found.problem is not None:
        return "it cannot be compared"
    if not found.enough:
        return "too few readings are compared"
    if found.since is None or found.until is None or found.until - found.since < AT_LEAST:
        return "it is compared for less than a day"
    if left_out > MOST_LEFT_OUT * (n + left_out):
        return "more than a tenth of the readings is not compared"
    if is_above and challenger.only > champion.only:
        return f"it calls more readings anomalies than version {champion.version} beyond chance"
    if (challenger.anomaly_rate_low or 0.0) > contamination:
        return "its rate of anomalies is above the contamination beyond chance"
    if challenger.alarms != champion.alarms:
        # Fewer may be a fault that it misses: somebody has to look.
        return f"it does not raise as many alarms as version {champion.version}"
    return None
