"""What the counts of two versions say, and how sure that is."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from vigie.models.comparison import ComparedVersion, Comparison
from vigie.serving.tally import Tally, by_chance, wilson

THREE = ComparedVersion(version=3, stage="Production", run_id="a")
FOUR = ComparedVersion(version=4, stage="Staging", run_id="b")


@pytest.mark.parametrize(("count", "n"), [(0, 5), (5, 5), (9, 10_000), (300, 1000)])
def test_a_share_has_wilsons_interval(count: int, n: int) -> None:
    expected = binomtest(count, n).proportion_ci(0.95, "wilson")
    assert wilson(count, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_an_interval_of_none_begins_at_zero_and_of_all_ends_at_one():
    for n in range(1, 3000):
        assert (wilson(0, n)[0], wilson(n, n)[1]) == (0.0, 1.0)


@pytest.mark.parametrize(("one", "other"), [(0, 1), (2, 12), (40, 30), (600, 520), (9000, 9300)])
def test_chance_is_that_of_a_sign_test(one: int, other: int) -> None:
    assert by_chance(one, other) == pytest.approx(binomtest(one, one + other).pvalue, rel=0.02)


def compared(readings: int, both: int, only_three: int, only_four: int) -> Comparison:
    tally = Tally()
    for name, count in {
        "readings": readings,
        "champion.anomalies": both + only_three,
        "challenger.anomalies": both + only_four,
        "champion.only": only_three,
        "challenger.only": only_four,
        "challenger.alarms": 2,
    }.items():
        tally.counts[name] = count
    return tally.comparison("isolation_forest", THREE, FOUR, 0.01, stored=True)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((0, 0, 0, 0), "No reading has been compared yet by version 4 and version 3."),
        (
            (10_000, 8, 1, 4),
            "Version 4 calls 12 of 10,000 readings anomalies, version 3 calls 9; they agree on "
            "99.95 % of them. Version 4 raised 2 alarms, version 3 none. The numbers of anomalies "
            "differ by no more than chance allows.",
        ),
        ((1999, 20, 0, 0), "they agree on 100 % of them"),
        ((1999, 20, 0, 0), "That is too little to go by: it takes 2,000 readings."),
        ((100_000, 0, 1, 0), "they agree on 99.99 % of them"),
        ((9000, 80, 5, 90), "Chance does not explain that version 4 calls more readings"),
        ((9000, 80, 90, 5), "Chance does not explain that version 4 calls fewer readings"),
    ],
)
def test_the_summary_says_what_would_have_changed(counts: tuple[int, ...], said: str) -> None:
    assert said in compared(*counts).summary


def test_there_are_enough_readings_once_twice_the_anomalies_would_be_noticed() -> None:
    found = compared(2000, 20, 0, 20)
    assert (found.enough, found.missing) == (True, 0)
    assert found.chance is not None
    assert found.chance < 0.01
    assert not compared(1999, 20, 0, 20).enough
