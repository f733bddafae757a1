"""Which versions in Staging are promoted without anybody's decision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vigie.models.comparison import ComparedVersion, Comparison
from vigie.serving.promotion import held_back
from vigie.serving.tally import Tally

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
THREE = ComparedVersion(version=3, stage="Production", run_id="a")
FOUR = ComparedVersion(version=4, stage="Staging", run_id="b")


def compared(problem: str | None = None, hours: float = 24.0, **counts: float) -> Comparison:
    """Return a comparison in which all is well, but for what is given."""
    both = {"anomalies": 90, "only": 10, "alarms": 2}
    of_sides = {
        f"{side}_{key}": n for side in ("champion", "challenger") for key, n in both.items()
    }
    tally = Tally(since=NOON, until=NOON + timedelta(hours=hours))
    for name, count in ({"readings": 10_000} | of_sides | counts).items():
        tally.counts[name.replace("_", ".")] = count
    return tally.comparison("isolation_forest", THREE, FOUR, 0.01, stored=True, problem=problem)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (compared(), None),
        (compared(challenger_anomalies=70, champion_only=30), None),
        (compared(challenger_anomalies=96, challenger_only=16), None),
        (compared(dropped=1111), None),
        (compared("It is damaged."), "cannot be compared"),
        (compared(readings=1999), "too few readings"),
        (compared(hours=23.9), "less than a day"),
        (compared(abstained=600, dropped=600), "more than a tenth"),
        (compared(challenger_anomalies=110, challenger_only=30), "more readings anomalies than"),
        (compared(champion_anomalies=150, challenger_anomalies=150), "above the contamination"),
        (compared(challenger_alarms=3), "as many alarms as version 3"),
        (compared(challenger_alarms=1), "as many alarms as version 3"),
    ],
)
def test_a_version_is_promoted_by_rule_or_held_back(found: Comparison, why: str | None) -> None:
    said = held_back(found, 0.01)
    if why is None:
        assert said is None
    else:
        assert said is not None
        assert why in said
