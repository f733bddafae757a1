"""The load of alarms: what is counted as standing, fleeting, chattering and a flood."""

from __future__ import annotations

from typing import Any

from vigie.alarm_rules import LoadLimits
from vigie.events.load import DAY_US, load_of
from vigie.history.alarms import Raised

LIMITS = LoadLimits()
S = 1_000_000


def load(*alarms: tuple[str, float, float | None], n_assets: int = 1) -> Any:
    """Return the load of a day, given asset, raised and cleared in seconds."""
    known = [
        Raised(asset, "", "alarm", int(r * S), None if c is None else int(c * S))
        for asset, r, c in sorted(alarms, key=lambda alarm: alarm[1])
    ]
    return load_of(known, 0, DAY_US, n_assets, LIMITS)


def test_a_quiet_day_has_no_load() -> None:
    found = load()
    assert (found.alarms, found.per_asset_and_day, found.assets) == (0, 0.0, [])
    assert load(n_assets=0).per_asset_and_day is None


def test_an_alarm_from_before_is_standing_and_not_counted_as_new() -> None:
    found = load(("pump", -100.0, None), ("fan", 10.0, None))
    assert (found.alarms, found.standing) == (1, 1)
    assert {asset.asset_id: asset.standing for asset in found.assets} == {"pump": 1, "fan": 0}


def test_one_that_is_gone_within_a_minute_is_fleeting() -> None:
    assert load(("pump", 0.0, 59.0), ("pump", 100.0, 161.0)).fleeting == 1


def test_three_of_one_asset_within_a_minute_chatter_and_others_do_not() -> None:
    burst = [("pump", 10.0 * n, 10.0 * n + 5) for n in range(4)]
    assert load(*burst, ("pump", 5000.0, 5100.0)).chattering == 4
    assert load(*[(f"pump-{n}", float(n), 300.0) for n in range(3)]).chattering == 0
    assert load(*[("pump", 31.0 * n, 31.0 * n + 5) for n in range(3)]).chattering == 0


def test_ten_of_all_assets_within_ten_minutes_are_a_flood_as_long_as_they_come() -> None:
    alarms = [(f"pump-{n}", 60.0 * n, None) for n in range(30)]
    [flood] = load(*alarms).floods
    assert flood.alarms == 30
    assert (flood.end - flood.start).total_seconds() == 29 * 60.0
    assert load(*alarms).in_flood == 29 * 60.0 / 86_400.0
    assert load(*[(f"pump-{n}", 70.0 * n, None) for n in range(9)]).floods == []
    apart = [(f"p-{n}", float(n), None) for n in range(10)]
    apart += [(f"q-{n}", 10_000.0 + n, None) for n in range(10)]
    assert [flood.alarms for flood in load(*apart).floods] == [10, 10]
