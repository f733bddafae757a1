"""Counts of what two versions said of the same readings, and the comparison that follows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats
from vigie.models.comparison import ComparedSensor, ComparedVersion, Comparison

Bools = NDArray[np.bool_]
SIDES = CHAMPION, CHALLENGER = ("champion", "challenger")
SCORE_BINS = (*(n / 10 for n in range(10)), 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999, 1.0)
"""Nine of ten readings of a healthy machine score below 0.9; what matters is above."""
EXPECTED = 20
"""Anomalies that the contamination must let one expect before a comparison says anything. A version
that calls twice as many then differs by 20 of at most 60, which chance does once in a hundred."""
Z = 1.959964
"""Of a normal variable, for an interval at 95 %."""
CHANCE = 0.05
"""A difference that chance makes more rarely is told as one."""


@dataclass
class Tally:
    """Counts that can be added: of batches, of runs of the service, of its replicas.

    Attributes
    ----------
    counts : dict of str to float
        By name: ``readings``, ``abstained``, ``dropped``, ``explained``, and of each side, such as
        of the champion, ``champion.anomalies``, ``.only``, ``.alarms``, ``.score.12`` (by bin),
        ``.first.SENSOR`` and ``.share.SENSOR`` (a sum of shares).
    since, until : datetime or None
        When the first and the last reading were compared.
    """

    counts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    since: datetime | None = None
    until: datetime | None = None

    def add(self, other: Tally) -> None:
        """Add the counts of another one."""
        for name, count in other.counts.items():
            self.counts[name] += count
        self.since = min(filter(None, (self.since, other.since)), default=None)
        self.until = max(filter(None, (self.until, other.until)), default=None)

    def add_verdicts(self, scores: Mapping[str, Floats], anomalous: Mapping[str, Bools]) -> None:
        """Count readings that both sides have judged.

        Parameters
        ----------
        scores : mapping of str to ndarray of shape (n,)
            By side.
        anomalous : mapping of str to ndarray of bool of shape (n,)
            By side, whether each is an anomaly.
        """
        self.counts["readings"] += len(scores[CHAMPION])
        for side, other in ((CHAMPION, CHALLENGER), (CHALLENGER, CHAMPION)):
            self.counts[f"{side}.anomalies"] += int(anomalous[side].sum())
            self.counts[f"{side}.only"] += int((anomalous[side] & ~anomalous[other]).sum())
            found, _ = np.histogram(scores[side], SCORE_BINS)
            for place in found.nonzero()[0].tolist():
                self.counts[f"{side}.score.{place}"] += int(found[place])

    def comparison(
        self,
        name: str,
        champion: ComparedVersion,
        challenger: ComparedVersion,
        contamination: float,
        *,
        stored: bool,
        problem: str | None = None,
    ) -> Comparison:
        """Return what the counts say.

        Parameters
        ----------
        name : str
            The model.
        champion, challenger : ComparedVersion
            The versions, without counts.
        contamination : float
            The share of healthy readings that may be called anomalous.
        stored : bool
            Whether the counts are in the history's database.
        problem : str, optional
            Why the challenger is not compared.
        """
        counts, n = self.counts, round(self.counts["readings"])
        sides = dict(zip(SIDES, (champion, challenger), strict=True))
        for side, version in sides.items():
            sides[side] = version.model_copy(update=self._of_side(side, n))
        champion, challenger = sides[CHAMPION], sides[CHALLENGER]
        equal = n - champion.only - challenger.only
        low, high = wilson(equal, n)
        needed = math.ceil(EXPECTED / contamination)
        found = Comparison(
            model=name,
            champion=champion,
            challenger=challenger,
            problem=problem,
            since=self.since,
            until=self.until,
            readings=n,
            abstained=round(counts["abstained"]),
            dropped=round(counts["dropped"]),
            agreement=equal / n if n else None,
            agreement_low=low,
            agreement_high=high,
            chance=by_chance(champion.only, challenger.only),
            enough=n >= needed,
            missing=max(needed - n, 0),
            score_bins=list(SCORE_BINS),
            explained=round(counts["explained"]),
            sensors=self._sensors(),
            stored=stored,
            summary="",
        )
        return found.model_copy(update={"summary": in_words(found)})

    def _of_side(self, side: str, n: int) -> dict[str, object]:
        kinds = ("anomalies", "only", "alarms")
        counts = {kind: round(self.counts[f"{side}.{kind}"]) for kind in kinds}
        low, high = wilson(counts["anomalies"], n)
        return counts | {
            "anomaly_rate": counts["anomalies"] / n if n else None,
            "anomaly_rate_low": low,
            "anomaly_rate_high": high,
            "scores": [
                round(self.counts[f"{side}.score.{place}"]) for place in range(len(SCORE_BINS) - 1)
            ],
        }

    def _sensors(self) -> list[ComparedSensor]:
        n = self.counts["explained"]
        names = {name.split(".", 2)[2] for name in self.counts if ".share." in name}
        sensors = [
            ComparedSensor.model_validate(
                {"name": name}
                | {f"{side}_first": round(self.counts[f"{side}.first.{name}"]) for side in SIDES}
                | {f"{side}_share": self.counts[f"{side}.share.{name}"] / n for side in SIDES}
            )
            for name in sorted(names)
        ]
        return sorted(sensors, key=lambda one: -abs(one.champion_share - one.challenger_share))


def wilson(count: int, n: int) -> tuple[float | None, float | None]:
    """Return Wilson's interval of a share at 95 % (Wilson 1927); None without a reading."""
    if n == 0:
        return None, None
    share, shrink = count / n, 1.0 + Z**2 / n
    middle = (share + Z**2 / (2 * n)) / shrink
    half = Z * math.sqrt(share * (1.0 - share) / n + Z**2 / (4 * n**2)) / shrink
    # Exactly, where rounding would leave something that is next to nothing.
    return 0.0 if count == 0 else middle - half, 1.0 if count == n else middle + half


def by_chance(only_one: int, only_other: int) -> float | None:
    """Return how often chance makes verdicts of one side alone so unequal (McNemar 1947).

    That is the two-sided p-value of a sign test on the readings on which the verdicts differ. It
    takes readings for independent; those of one fault are not, so it is a lower limit.
    """
    n, fewer = only_one + only_other, min(only_one, only_other)
    if only_one == only_other:
        return None
    if n <= 1000:
        ways: int = sum(math.comb(n, k) for k in range(fewer + 1))
        chance: float = ways / 2 ** (n - 1)
        return min(chance, 1.0)
    return math.erfc((abs(only_one - only_other) - 1.0) / math.sqrt(2.0 * n))


def in_words(found: Comparison) -> str:
    """Return what a comparison says, in a few sentences."""
    champion, challenger = found.champion, found.challenger
    one, other = f"version {challenger.version}", f"version {champion.version}"
    if found.problem is not None and not found.readings:
        return f"{one.capitalize()} is not compared. {found.problem}"
    if not found.readings:
        return f"No reading has been compared yet by {one} and {other}."
    sentences = [
        f"{one.capitalize()} calls {challenger.anomalies:,} of {found.readings:,} readings "
        f"anomalies, {other} calls {champion.anomalies:,}; they agree on "
        f"{_percent(found.agreement or 0.0)} of them.",
        f"{one.capitalize()} raised {_alarms(challenger.alarms)}, {other} "
        f"{champion.alarms or 'none'}.",
    ]
    if found.missing:
        sentences.append(
            f"That is too little to go by: it takes {found.readings + found.missing:,} readings."
        )
    elif found.chance is None or found.chance > CHANCE:
        sentences.append("The numbers of anomalies differ by no more than chance allows.")
    else:
        more = "more" if challenger.only > champion.only else "fewer"
        sentences.append(f"Chance does not explain that {one} calls {more} readings anomalies.")
    if found.problem is not None:
        sentences.append(f"{one.capitalize()} is not compared any more. {found.problem}")
    return " ".join(sentences)


def _percent(share: float) -> str:
    """Return a share so that only all of them are 100 %."""
    return "100 %" if share == 1.0 else f"{min(100.0 * share, 99.99):.4g} %"


def _alarms(n: int) -> str:
    return "no alarm" if n == 0 else "1 alarm" if n == 1 else f"{n:,} alarms"
