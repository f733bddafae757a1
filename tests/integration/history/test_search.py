"""Readings are found by asset, time and verdict, page by page, and thinned for pictures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from vigie.errors import InvalidDataError
from vigie.history import search
from vigie.history.records import Assessed, Reading
from vigie.history.store import History
from vigie.models.anomaly_data import CriticalityLevel
from vigie.models.readings import Key, Order, ReadingPage, ReadingSearch
from vigie.services.reading_search import found_readings

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
LEVELS = (None, *CriticalityLevel)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


@pytest.fixture
def history(new_history: Callable[[], str]) -> Iterator[History]:
    history = History(new_history())
    yield history
    history.close()


def keep(
    history: History, asset_id: str, seconds: list[float], sensor_id: str | None = None
) -> None:
    """Store readings, every fifth of them an anomaly, of each criticality in turn."""
    with history.transaction(asset_id, sensor_id) as transaction:
        transaction.append(
            Reading(
                asset_id,
                sensor_id,
                at(second),
                {"rms": second},
                Assessed(
                    is_anomaly=number % 5 > 0,
                    criticality=LEVELS[number % 5],
                    versions={"one_class_svm": 3},
                ),
            )
            for number, second in enumerate(seconds)
        )


def found(history: History, **asked: object) -> ReadingPage:
    return found_readings(history, ReadingSearch.model_validate(asked))


def seconds(page: ReadingPage) -> list[tuple[str, float]]:
    return [(one.asset_id, (one.timestamp - START).total_seconds()) for one in page.readings]


def all_pages(history: History, **asked: object) -> Iterator[ReadingPage]:
    page = found(history, **asked)
    yield page
    while page.next is not None:
        page = found(history, **asked, cursor=page.next)
        yield page


PLANT = {
    "site/line/pump-1": [0.0, 1.0, 2.0, 3.0, 3.5, 100.0],
    "site/line/pump-2": [0.0, 1.0, 2.0, 3.0, *(4.0 + n / 64 for n in range(60))],
    "site/line-2/pump-1": [0.5, 3.0],
    "site": [2.0],
    "50%_": [2.0],
}
ALL = sorted((second, asset) for asset, its in PLANT.items() for second in its)


@pytest.mark.parametrize("limit", [1, 3, 7, 200])
@pytest.mark.parametrize("order", Order)
def test_pages_have_all_readings_of_all_assets_in_order_once(
    history: History, order: Order, limit: int
) -> None:
    for asset_id, its in PLANT.items():
        keep(history, asset_id, its)
    pages = list(all_pages(history, order=order, limit=limit))
    assert all(len(page.readings) == limit for page in pages[:-1])
    told = [one for page in pages for one in seconds(page)]
    assert sorted(told) == sorted((asset, second) for second, asset in ALL)
    times = [second for _, second in told]
    assert times == sorted(times, reverse=order is Order.NEWEST)
    # By offset, the same.
    assert seconds(found(history, order=order, limit=5, offset=4)) == told[4:9]


def test_pages_stay_as_they_are_while_readings_come_in(history: History) -> None:
    keep(history, "pump", list(map(float, range(20))))
    pages, told = all_pages(history, limit=6), []
    for number, page in enumerate(pages):
        told += [second for _, second in seconds(page)]
        keep(history, "pump", [100.0 + number])
        keep(history, f"new pump {number}", [200.0])
    assert told == list(map(float, reversed(range(20))))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"asset_id": "site/line/pump-1"}, {"site/line/pump-1": 6}),
        ({"asset_id": "site/line/"}, {"site/line/pump-1": 6, "site/line/pump-2": 64}),
        ({"asset_id": "site/line"}, {}),
        ({"asset_id": "site"}, {"site": 1}),
        ({"asset_id": "50%_"}, {"50%_": 1}),
        ({"asset_id": "%/"}, {}),
        ({"asset_id": "site/", "start_date": "2026-01-05T08:00:03Z", "end_date":
          "2026-01-05T08:00:03.5Z"},
         {"site/line/pump-1": 2, "site/line/pump-2": 1, "site/line-2/pump-1": 1}),
        ({"asset_id": "site/line/pump-1", "is_anomaly": True}, {"site/line/pump-1": 4}),
        ({"asset_id": "site/line/pump-1", "is_anomaly": False}, {"site/line/pump-1": 2}),
        ({"asset_id": "site/line/pump-1", "criticality": ["critical", "low"]},
         {"site/line/pump-1": 2}),
        ({"sensor_id": ""}, {asset: len(its) for asset, its in PLANT.items()}),
        ({"sensor_id": "left"}, {"grouped": 3}),
    ],
)  # fmt: skip
def test_readings_are_found_by_asset_time_and_verdict(
    history: History, asked: dict[str, object], expected: dict[str, int]
) -> None:
    for asset_id, its in PLANT.items():
        keep(history, asset_id, its)
    keep(history, "grouped", [1.0, 2.0, 3.0], "left")
    page = found(history, **asked, limit=1000)
    counts = {
        asset: len(list(its))
        for asset, its in itertools.groupby(sorted(seconds(page)), key=lambda one: one[0])
    }
    assert counts == expected
    for reading in page.readings:
        assert reading.is_anomaly is (reading.criticality is not None)
        assert reading.models == {"one_class_svm": 3}


def test_more_readings_than_are_read_at_once_are_found(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST", 10)
    keep(history, "pump", list(map(float, range(100))))
    assert len(found(history, limit=100).readings) == 100


def test_a_cursor_is_refused_in_another_order_and_if_it_is_none(history: History) -> None:
    keep(history, "pump", [0.0, 1.0])
    cursor = found(history, limit=1).next
    beyond = [Key(2**70, 1).cursor(Order.NEWEST), Key(1, 2**70).cursor(Order.NEWEST)]
    for wrong, order in (
        (cursor, "oldest"),
        *((text, "newest") for text in ("MTIz", "é", "1", *beyond)),
    ):
        with pytest.raises(InvalidDataError) as refused:
            found(history, cursor=wrong, order=order)
        assert refused.value.field == "cursor"


# Pictures


def keep_signal(history: History, values: np.ndarray, scores: np.ndarray) -> None:
    with history.transaction("pump", None) as transaction:
        transaction.append(
            Reading(
                "pump",
                None,
                at(number),
                {"rms": float(value), "mode": "auto", "dead": None},
                Assessed(final_score=float(score)),
                frozenset(("mode",)),
            )
            for number, (value, score) in enumerate(zip(values, scores, strict=True))
        )


@pytest.mark.parametrize("portion", [7, 10_000])
def test_a_picture_keeps_the_extremes_of_each_value_and_of_the_score(
    history: History, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr("vigie.history.thinning.PORTION", portion)
    rng = np.random.default_rng(0)
    values, scores = rng.normal(size=2000), rng.uniform(size=2000)
    values[1234], scores[777] = 50.0, 0.999_999
    keep_signal(history, values, scores)

    page = found(history, asset_id="pump", points=100)

    assert page.thinned_from == 2000
    assert len(page.readings) <= 100
    times = [one.timestamp for one in page.readings]
    assert times == sorted(set(times))
    assert {at(0), at(1999), at(1234), at(777)} <= set(times)
    # Ten parts: four columns, with the lowest and highest of each, the first and the last.
    for part in np.split(np.arange(2000), 10):
        first, last = at(int(part[0])), at(int(part[-1]))
        shown = [one for one in page.readings if first <= one.timestamp <= last]
        for name, expected in (("rms", values[part]), ("final_score", scores[part])):
            told = [one.features["rms"] if name == "rms" else one.final_score for one in shown]
            assert min(told) == expected.min()
            assert max(told) == expected.max()


def test_few_readings_are_all_in_the_picture(history: History) -> None:
    keep_signal(history, np.arange(10.0), np.arange(10.0) / 10)
    page = found(history, asset_id="pump", points=10)
    assert [one.features["rms"] for one in page.readings] == list(range(10))
    assert page.thinned_from == 10
    assert found(history, asset_id="another", points=10).readings == []


def test_a_picture_of_several_assets_is_refused(history: History) -> None:
    keep(history, "pump", [0.0])
    keep(history, "fan", [0.0], "left")
    keep(history, "fan", [0.0], "right")
    with pytest.raises(InvalidDataError, match="several fit") as refused:
        found(history, points=100)
    assert refused.value.field == "asset_id"
    with pytest.raises(InvalidDataError, match="several groups") as refused:
        found(history, asset_id="fan", points=100)
    assert refused.value.field == "sensor_id"
    assert len(found(history, asset_id="fan", sensor_id="left", points=100).readings) == 1


# Many assets in one transaction


def test_readings_of_several_new_assets_are_stored_together_or_not_at_all(
    history: History,
) -> None:
    assets = [("pump", None), ("fan", "left"), ("fan", "right")]
    features = [{"rms": 1.0}, {"rms": 2.0, "load": 3.0}, {"load": 3.0, "rms": 2.0}]

    def store(*, fails: bool = False) -> None:
        with history.transactions(assets) as transactions:
            for asset, values, one in zip(assets, features, transactions, strict=True):
                one.append([Reading(*asset, at(0), values, Assessed())])
                assert one.revision(1).newest == at(0)
            if fails:
                raise KeyError(assets[0])

    with pytest.raises(KeyError):
        store(fails=True)
    assert found(history).readings == []
    for _ in range(2):
        store()
        stored = {(one.asset_id, one.sensor_id): one.features for one in found(history).readings}
        assert stored == dict(zip(assets, features, strict=True))
