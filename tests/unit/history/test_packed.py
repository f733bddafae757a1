"""Readings as bytes: what is packed is unpacked bit by bit, in few bytes."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from vigie.history.packed import layout_from, layout_of, level_of, pack, unpack
from vigie.history.records import Assessed, Reading, Standing
from vigie.models.anomaly_data import AssetState, CriticalityLevel

TIME = datetime(2026, 1, 5, 8, tzinfo=UTC)
SINCE, BEGAN = "2026-01-05T08:00:00.000001", "0001-01-01T00:00:00.000000"
STANDING = Standing(AssetState.ALARM, SINCE, BEGAN, 3, 0.25)
FULL = Assessed(
    final_score=0.999,
    is_anomaly=True,
    p_value=5e-324,
    state=AssetState.ALARM,
    since=SINCE,
    began=BEGAN,
    calm=70_000,
    usual=0.1 + 0.2,
    held={"rms": 128, "a sensor of the models only": 9},
    shift_us=12,
    went_on_from=STANDING,
    criticality=CriticalityLevel.CRITICAL,
    versions={"one_class_svm": None, "isolation_forest": 12},
)
SURE = Assessed(final_score=1.0 - 1e-3, p_value=1e-3)
UNSCORED = Assessed(p_value=0.5)
NUMBERS = some.floats()
VALUES = some.dictionaries(
    some.text(max_size=20),
    some.one_of(NUMBERS, some.none(), some.booleans(), some.text(max_size=20)),
    max_size=12,
)


def read_back(reading: Reading) -> tuple[dict[str, Any], Assessed]:
    """Return what is stored of a reading, by another process."""
    layout = layout_from(layout_of(reading).text)
    assert layout.digest == layout_of(reading).digest
    packed = pack(layout, reading.features, reading.assessed)
    return unpack(layout, level_of(reading.assessed), packed)


def of(features: dict[str, Any], assessed: Assessed = FULL, *context: str) -> Reading:
    return Reading("pump", None, TIME, features, assessed, frozenset(context))


def bits(value: Any) -> Any:
    return struct.pack("<d", value) if isinstance(value, float) else value


@given(VALUES, some.sampled_from([Assessed(), FULL, SURE, UNSCORED]))
def test_every_value_comes_back_bit_by_bit_with_its_type(
    features: dict[str, Any], assessed: Assessed
) -> None:
    values, result = read_back(of(features, assessed))
    assert result == assessed
    assert list(values) == list(features)
    for name, value in features.items():
        assert type(values[name]) is type(value)
        assert bits(values[name]) == bits(value)


@pytest.mark.parametrize("criticality", [None, *CriticalityLevel])
@pytest.mark.parametrize("state", [None, *AssetState])
def test_every_state_and_criticality_comes_back(
    state: AssetState | None, criticality: CriticalityLevel | None
) -> None:
    assessed = Assessed(is_anomaly=True, state=state, criticality=criticality)
    assert read_back(of({"rms": 1.0}, assessed))[1] == assessed


def test_names_in_another_order_have_the_same_layout() -> None:
    one = layout_of(of({"rms": 1.0, "load": 2.0, "mode": "auto"}, FULL, "mode"))
    other = layout_of(of({"mode": "auto", "load": 2.0, "rms": 1.0}, FULL, "mode"))
    assert one.digest == other.digest
    assert one.names == ("rms", "load", "mode")
    assert one.digest != layout_of(of({"rms": 1.0, "load": 2.0, "mode": "auto"})).digest
    assert one.digest != layout_of(of({"rms": 1.0, "load": 2.0, "mode": "auto"}, Assessed())).digest


def test_eight_sensors_take_less_than_a_hundred_bytes() -> None:
    features = {f"sensor {number}": 1.0 / number for number in range(1, 9)}
    usual = Assessed(1.0 - 0.4, False, 0.4, AssetState.NORMAL, SINCE, None, 3, 0.4)
    reading = of(features, usual)
    assert len(pack(layout_of(reading), features, usual)) == 8 * 8 + 27
