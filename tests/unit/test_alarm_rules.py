"""Rules of alarms: which assets a pattern fits, and when a weekly window is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vigie.alarm_rules import AlarmRule, WeeklyWindow, first_fit, fits
from vigie.config import Settings, written
from vigie.errors import InvalidDataError


@pytest.mark.parametrize(
    ("pattern", "asset", "is_one"),
    [
        ("*", "anything/at-all", True),
        ("site/line-2", "site/line-2", True),
        ("site/line-2", "site/line-2/pump", True),
        ("site/line-2/", "site/line-2/pump", True),
        ("site/line-2", "site/line-22", False),
        ("site/*/pump-?", "site/line-2/pump-3", True),
        ("site/*/pump-?", "site/line-2/pump-3/motor", True),
        ("Site", "site", False),
    ],
)
def test_a_pattern_fits_an_asset_and_those_below_it(pattern: str, asset: str, is_one: bool) -> None:
    assert fits(pattern, asset) is is_one


def test_the_first_rule_that_fits_counts() -> None:
    rules = [AlarmRule(assets="a", on_delay_s=1), AlarmRule(on_delay_s=2)]
    found = [first_fit(rules, asset) for asset in ("a/b", "c")]
    assert [rule and rule.on_delay_s for rule in found] == [1, 2]
    assert first_fit([], "a") is None


def window(**fields: object) -> WeeklyWindow:
    return WeeklyWindow.model_validate(fields)


def end(of: WeeklyWindow, moment: str) -> str | None:
    found = of.ends(datetime.fromisoformat(moment).replace(tzinfo=UTC))
    return found and found.strftime("%a %H:%M")


def test_a_window_is_on_its_days_by_the_clock_of_its_zone() -> None:
    shift = window(days=["mon", "tue"], **{"from": "06:00", "to": "14:00"})
    assert end(shift, "2026-01-05T05:59") is None
    assert end(shift, "2026-01-05T06:00") == "Mon 14:00"
    assert end(shift, "2026-01-06T13:59") == "Tue 14:00"
    assert end(shift, "2026-01-06T14:00") is None
    assert end(shift, "2026-01-07T08:00") is None
    paris = window(zone="Europe/Paris", **{"from": "06:00", "to": "14:00"})
    assert end(paris, "2026-01-05T05:00") == "Mon 13:00"
    assert end(paris, "2026-07-06T04:00") == "Mon 12:00"


def test_a_window_may_go_over_midnight_and_the_default_is_the_whole_day() -> None:
    night = window(days=["fri"], **{"from": "22:00", "to": "06:00"})
    assert end(night, "2026-01-09T23:00") == "Sat 06:00"
    assert end(night, "2026-01-10T05:59") == "Sat 06:00"
    assert end(night, "2026-01-10T06:00") is None
    assert end(night, "2026-01-11T01:00") is None
    assert end(window(days=["sun"]), "2026-01-11T12:00") == "Mon 00:00"
    assert end(window(), "2026-01-07T00:00") == "Thu 00:00"


def test_where_clocks_change_a_window_ends_by_the_clock() -> None:
    # On 29 March 2026 it is 01:30 in UTC half an hour after clocks went from 2 to 3.
    night = window(zone="Europe/Paris", **{"from": "22:00", "to": "06:00"})
    assert end(night, "2026-03-29T01:30") == "Sun 04:00"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("alarms", "x", "JSON is expected"),
        ("alarms", '[{"asets": "x"}]', "asets"),
        ("alarms", [{"on_delay_s": -1}], "on_delay_s"),
        ("maintenance", [{"zone": "Mars/Olympus"}], "time zone is expected"),
        ("maintenance", [{"days": []}], "days"),
        ("maintenance", [{"from": 6}], "A time of day is expected, such as 06:30"),
        ("maintenance", [{"from": "6"}], "A time of day is expected, such as 06:30"),
        ("maintenance", [{"to": "25:00"}], "A time of day is expected, such as 06:30"),
        ("maintenance", [{"to": "06:00+02:00"}], "without an offset"),
        ("alert_channels", {"x": {"kind": "webhook", "url": "ftp://x"}}, "x.webhook.url"),
        (
            "alert_channels",
            {"x": {"kind": "webhook", "url": "http://x", "secret": "whsec_!"}},
            "base64 is expected",
        ),
        ("alert_channels", {"x": {"kind": "email", "password": "shh"}}, "x.email"),
        ("alert_routes", [{"channels": ["nobody"]}], "no channel 'nobody'"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(name: str, value: object, told: str) -> None:
    with pytest.raises(InvalidDataError) as refused:
        Settings(**{name: value})
    assert refused.value.field == f"VIGIE_{name.upper()}"
    assert told in str(refused.value)
    assert "shh" not in str(refused.value)
    assert "whsec" not in str(refused.value).replace("After whsec_", "")


def test_rules_survive_the_way_through_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        alarms=[{"assets": "a", "kinds": ["alarm"], "on_delay_s": 5}],
        maintenance=[{"from": "06:00", "to": "14:00", "days": ["sat"]}],
        alarm_load={"flood": 20},
    )
    for name in ("alarms", "maintenance", "alarm_load"):
        monkeypatch.setenv(f"VIGIE_{name.upper()}", written(getattr(settings, name)))
    assert Settings() == settings
