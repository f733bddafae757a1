"""What two versions of a model say of the same readings, as data."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class ComparedVersion(BaseModel):
    """What one of the two versions said, judging alone."""

    version: int
    stage: str
    run_id: str | None
    anomalies: int = 0
    """Readings that it called anomalies."""
    anomaly_rate: float | None = None
    """Their share; null without readings."""
    anomaly_rate_low: float | None = None
    anomaly_rate_high: float | None = None
    """Wilson's interval of that share, at 95 %."""
    only: int = 0
    """Anomalies that the other version did not call so."""
    alarms: int = 0
    """How often an asset went into alarm."""
    scores: list[int] = []
    """Readings in each bin of ``score_bins``."""


class ComparedSensor(BaseModel):
    """How two versions explain the readings that either of them calls an anomaly."""

    name: str
    champion_first: int
    challenger_first: int
    """Readings of which the version names this sensor first."""
    champion_share: float
    challenger_share: float
    """Mean share of the sensor in these readings, 0 to 1."""


class Comparison(BaseModel):
    """The version that serves (champion) and the one in Staging (challenger), on live readings."""

    model: str
    champion: ComparedVersion
    challenger: ComparedVersion
    problem: str | None = None
    """Why the challenger is not compared; null if it is."""
    since: datetime | None = None
    until: datetime | None = None
    """When the first and the last reading were compared; null without readings."""
    readings: int = 0
    """Readings on which both versions had a verdict."""
    abstained: int = 0
    """Readings on which one of them had none, such as before its window is full."""
    dropped: int = 0
    """Readings that were not compared: too many at once or too many assets, older than the last of
    their asset, or the comparison failed."""
    agreement: float | None = None
    """Share of the readings with equal verdicts; null without readings."""
    agreement_low: float | None = None
    agreement_high: float | None = None
    """Wilson's interval of that share, at 95 %."""
    chance: float | None = None
    """How often chance alone would make the numbers of anomalies differ so much; null without a
    difference."""
    enough: bool = False
    """Whether there are enough readings to tell a version that calls twice as many anomalies as
    it should."""
    missing: int = 0
    """Readings that are missing for that."""
    score_bins: list[float] = []
    """Edges of the bins of ``scores``, ascending; a bin has its lower edge."""
    explained: int = 0
    """Anomalies of either version behind ``sensors``; not all of them where they are many."""
    sensors: list[ComparedSensor] = []
    """The sensors whose shares differ most come first."""
    stored: bool
    """Whether it is stored in the history's database; otherwise it begins anew with the process,
    and is that of this one alone."""
    summary: str
    """The same in a few sentences."""
