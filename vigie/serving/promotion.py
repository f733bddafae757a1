"""The rule by which a version in Staging is promoted without anybody's decision."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from vigie.config import Settings
from vigie.errors import VigieError
from vigie.models.comparison import Comparison
from vigie.serving.follower import RegistryFollower
from vigie.serving.tally import CHANCE

logger = logging.getLogger(__name__)

JUDGE_EVERY_S = 60.0
"""Interval between two looks at whether a version is to be promoted."""
BY = "VIGIE_PROMOTION=automatic"
"""Who promotes, for the history."""
AT_LEAST = timedelta(days=1)
"""How long versions are compared: machines run differently by day and by night."""
MOST_LEFT_OUT = 0.1
"""Share of the readings that may lack a verdict of either version."""
RULE = (
    "It was compared for a day or longer on enough readings. Beyond chance it calls no more of "
    "them anomalies than the version before, nor than the contamination allows. It raised as many "
    "alarms."
)


class AutomaticPromotion:
    """Promote the versions in Staging that the rule lets through, if that is not left to people.

    Parameters
    ----------
    settings : Settings
        Whether it is, and the contamination.
    registry : RegistryFollower
        What is in Staging.
    comparison : callable
        Returns the comparison of a model's version in Staging; None if there is none.
    move : callable
        Moves the version of a comparison to Production, given the reason and who does it; may
        raise ``VigieError``.
    """

    def __init__(
        self,
        settings: Settings,
        registry: RegistryFollower,
        comparison: Callable[[str], Comparison | None],
        move: Callable[[Comparison, str, str], None],
    ):
        self._settings, self._registry = settings, registry
        self._comparison, self._move = comparison, move
        self._told: dict[str, str] = {}
        self._judges_after = 0.0

    def promote(self) -> bool:
        """Promote what may be promoted, once a minute at most; return whether anything was.

        What holds a version back is logged once.
        """
        if self._settings.promotion == "manual" or not self._registry.answers:
            return False
        if time.monotonic() < self._judges_after:
            return False
        self._judges_after = time.monotonic() + JUDGE_EVERY_S
        promoted = [self._judge(name) for name in list(self._registry.staged)]
        return any(promoted)

    def _judge(self, name: str) -> bool:
        if (found := self._comparison(name)) is None:
            return False
        version = found.challenger.version
        if why := held_back(found, self._settings.contamination):
            stays = f"Version {version} of '{name}' stays in Staging: {why}."
            if self._told.get(name) != stays:
                logger.info("%s", stays)
            self._told[name] = stays
            return False
        try:
            self._move(found, RULE, BY)
        except VigieError as error:
            logger.error("Version %d of '%s' is not promoted. %s", version, name, error)
            return False
        logger.info("Version %d of '%s' is promoted. %s %s", version, name, RULE, found.summary)
        return True


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
