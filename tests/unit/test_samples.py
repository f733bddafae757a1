"""The simulated bench behaves as the machine that a maintenance engineer knows."""

from __future__ import annotations

import numpy as np
import pytest

from vigie.samples import FAULTS, FEATURE_NAMES, SENSORS, faulty, healthy

SEEDS = (1, 2, 3)
ONSET = 600
BUILDING_UP = tuple(fault for fault in FAULTS if fault != "stuck_sensor")

PHYSICAL_RANGE = {
    "vibration_rms": (0.5, 10),
    "vibration_kurtosis": (2, 20),
    "bearing_temperature": (35, 80),
    "fluid_temperature": (25, 60),
    "inlet_pressure": (0.1, 1.3),
    "outlet_pressure": (1.5, 4.5),
    "flow_rate": (20, 120),
    "motor_current": (1.0, 2.5),
}


def column(recording, name):
    return recording.data[:, FEATURE_NAMES.index(name)]


def deviation(fault, seed=1, **how):
    """Return, by sensor, how far the fault moves it from its onset on, in healthy deviations."""
    recording = faulty(fault, seed=seed, **how)
    sound = healthy(len(recording.data), seed=seed).data
    moved = (recording.data - sound) / healthy(4000, seed=99).data.std(axis=0)
    return dict(zip(FEATURE_NAMES, moved[ONSET:].T, strict=True))


def leaves_its_band(moved):
    """Return the first of ten readings in a row beyond four healthy deviations."""
    beyond = np.lib.stride_tricks.sliding_window_view(np.abs(moved) > 4, 10).all(axis=1)
    assert beyond.any(), "the sensor never leaves its healthy band"
    return int(np.argmax(beyond))


def test_the_bench_has_eight_sensors_each_with_a_unit_and_a_description():
    assert len(SENSORS) == len(set(FEATURE_NAMES)) == 8
    assert all(sensor.unit and sensor.description for sensor in SENSORS)
    assert all(name.isidentifier() and name == name.lower() for name in FEATURE_NAMES)


def test_a_healthy_recording_has_a_row_a_second_and_no_fault():
    recording = healthy(300)
    assert recording.data.shape == (300, 8)
    assert recording.data.dtype == np.float64
    assert recording.feature_names == FEATURE_NAMES
    assert recording.fault is None
    assert not recording.labels.any()
    assert recording.timestamps.dtype == np.dtype("datetime64[ms]")
    assert recording.timestamps[0] == np.datetime64("2026-01-05T08:00")
    assert (np.diff(recording.timestamps) == np.timedelta64(1, "s")).all()


def test_timestamps_follow_the_sampling_period():
    recording = faulty("cavitation", 20, onset=10, sampling_period_s=0.25)
    assert (np.diff(recording.timestamps) == np.timedelta64(250, "ms")).all()


@pytest.mark.parametrize("fault", FAULTS)
def test_labels_turn_to_one_at_the_onset(fault):
    recording = faulty(fault, 50, onset=20)
    assert recording.fault == fault
    assert recording.labels.tolist() == [0] * 20 + [1] * 30


def test_the_same_seed_gives_the_same_bytes():
    assert healthy(200, seed=5).data.tobytes() == healthy(200, seed=5).data.tobytes()
    for fault in FAULTS:
        first, second = (faulty(fault, 200, onset=50, seed=5) for _ in range(2))
        assert first.data.tobytes() == second.data.tobytes()


def test_another_seed_gives_another_recording():
    assert not np.isclose(healthy(200, seed=5).data, healthy(200, seed=6).data).all()


def test_a_longer_recording_begins_with_the_shorter_one():
    assert np.array_equal(healthy(500, seed=4).data[:200], healthy(200, seed=4).data)
    for fault in FAULTS:
        longer, shorter = (faulty(fault, n, onset=50, seed=4).data for n in (500, 400))
        assert np.array_equal(longer[:400], shorter)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_machine_is_the_healthy_one_until_the_onset(fault):
    sound = healthy(800, seed=4).data
    recording = faulty(fault, 800, onset=300, seed=4).data
    assert np.array_equal(recording[:300], sound[:300])
    assert not np.array_equal(recording[300:], sound[300:])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_machine_stays_the_same_from_first_half_to_second(seed):
    first, second = np.split(healthy(2000, seed=seed).data, 2)
    spread = healthy(4000, seed=99).data.std(axis=0)
    assert (np.abs(first.mean(axis=0) - second.mean(axis=0)) < spread).all()
    assert np.allclose(first.std(axis=0), second.std(axis=0), rtol=0.5)


def test_the_machine_is_the_same_however_often_it_is_read():
    often, seldom = healthy(4000).data, healthy(4000, sampling_period_s=20.0).data
    assert (np.abs(often.mean(axis=0) - seldom.mean(axis=0)) < 0.5 * often.std(axis=0)).all()
    assert np.allclose(often.std(axis=0), seldom.std(axis=0), rtol=0.25)


def test_readings_remember_the_one_before():
    data = healthy().data
    for before, after in zip(data[:-1].T, data[1:].T, strict=True):
        assert np.corrcoef(before, after)[0, 1] > 0.3


def test_a_healthy_pump_keeps_the_affinity_laws():
    smoothed = healthy().data.reshape(-1, 10, 8).mean(axis=1)
    vibration, _, _, _, inlet, outlet, flow, current = smoothed.T
    exponent = np.polyfit(np.log(flow), np.log(outlet - inlet), 1)[0]
    assert exponent == pytest.approx(2, abs=0.3)
    assert np.corrcoef(flow, current)[0, 1] > 0.8
    assert np.corrcoef(flow, vibration)[0, 1] > 0.5


def test_healthy_vibration_is_gaussian_whatever_the_load():
    recording = healthy()
    kurtosis = column(recording, "vibration_kurtosis")
    assert kurtosis.mean() == pytest.approx(3, abs=0.05)
    assert abs(np.corrcoef(kurtosis, column(recording, "flow_rate"))[0, 1]) < 0.2


@pytest.mark.parametrize("severity", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("fault", FAULTS)
def test_readings_stay_in_physical_ranges(fault, severity):
    for seed in SEEDS:
        recording = faulty(fault, 2000, seed=seed, severity=severity)
        for name, (low, high) in PHYSICAL_RANGE.items():
            assert low < column(recording, name).min(), name
            assert column(recording, name).max() < high, name
        head = column(recording, "outlet_pressure") - column(recording, "inlet_pressure")
        assert head.min() > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", BUILDING_UP)
def test_a_fault_builds_up(fault, seed):
    moved = np.mean(np.abs(list(deviation(fault, seed).values())), axis=0)
    first, middle, last = (third.mean() for third in np.split(moved, 3))
    assert moved[0] < 0.5
    assert first < middle
    assert 1.5 * first < last


@pytest.mark.parametrize("fault", BUILDING_UP)
def test_a_severer_fault_goes_further(fault):
    slight, half, full = (
        np.mean(np.abs(list(deviation(fault, severity=severity).values())))
        for severity in (0.2, 0.5, 1.0)
    )
    assert slight < half < full


@pytest.mark.parametrize("fault", BUILDING_UP)
def test_a_fault_takes_its_time_and_not_a_number_of_readings(fault):
    each_second = faulty(fault, seed=3)
    every_other = faulty(fault, 600, onset=300, seed=3, sampling_period_s=2.0)
    spread = healthy(4000, seed=99).data.std(axis=0)
    gap = each_second.data[-200:].mean(axis=0) - every_other.data[-100:].mean(axis=0)
    moved = each_second.data[-200:].mean(axis=0) - each_second.data[:ONSET].mean(axis=0)
    assert (np.abs(gap) < 1.5 * spread + 0.25 * np.abs(moved)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_closing_valve_throttles_the_flow_and_the_fluid_warms_up_later(seed):
    moved = deviation("valve_closing", seed)
    end = {name: values[-200:].mean() for name, values in moved.items()}
    assert end["flow_rate"] < -10
    assert end["outlet_pressure"] > 5
    assert end["inlet_pressure"] > 5
    assert end["motor_current"] < -4
    assert end["fluid_temperature"] > 5
    assert end["vibration_rms"] > 4
    assert end["vibration_kurtosis"] == pytest.approx(0)
    flow, fluid, bearing = (
        leaves_its_band(moved[name])
        for name in ("flow_rate", "fluid_temperature", "bearing_temperature")
    )
    assert flow + 60 < fluid < bearing


@pytest.mark.parametrize("seed", SEEDS)
def test_cavitation_lowers_the_inlet_pressure_first_and_then_strikes(seed):
    moved = deviation("cavitation", seed)
    end = {name: values[-200:].mean() for name, values in moved.items()}
    assert end["vibration_kurtosis"] > 10
    assert end["vibration_rms"] > 4
    assert end["flow_rate"] < -4
    assert end["inlet_pressure"] < -10
    assert abs(end["bearing_temperature"]) < 4
    inlet, kurtosis = (
        leaves_its_band(moved[name]) for name in ("inlet_pressure", "vibration_kurtosis")
    )
    assert inlet < kurtosis


def test_cavitation_comes_in_bursts_that_grow_more_frequent():
    struck = np.array([deviation("cavitation", seed)["vibration_kurtosis"] > 4 for seed in SEEDS])
    begin, middle, end = (
        stretch.mean() for stretch in (struck[:, :90], struck[:, 90:210], struck[:, 300:])
    )
    assert begin == 0
    assert 0.1 < middle < 0.7
    assert middle < end
    assert (np.diff(struck[:, 90:210].astype(int), axis=1) == 1).sum(axis=1).min() >= 2


def test_cavitation_shakes_the_outlet_pressure():
    pressure = column(faulty("cavitation", 2000), "outlet_pressure")
    before, after = pressure[:ONSET], pressure[1200:]
    assert np.diff(after).std() > 2 * np.diff(before).std()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("severity", [0.5, 1.0])
def test_a_worn_bearing_shows_in_kurtosis_then_in_rms_then_in_temperature(seed, severity):
    moved = deviation("bearing_wear", seed, n_samples=1600, severity=severity)
    kurtosis, rms, temperature = (
        leaves_its_band(moved[name])
        for name in ("vibration_kurtosis", "vibration_rms", "bearing_temperature")
    )
    assert kurtosis < rms < temperature


def test_a_worn_bearing_leaves_the_hydraulics_alone_and_costs_a_little_current():
    moved = deviation("bearing_wear")
    for name in ("flow_rate", "inlet_pressure", "outlet_pressure"):
        assert not moved[name].any()
    assert 0.5 < moved["motor_current"][-200:].mean() < 4


def test_kurtosis_falls_back_as_the_damage_spreads():
    kurtosis = column(faulty("bearing_wear"), "vibration_kurtosis")[ONSET:]
    peak = max(chunk.mean() for chunk in np.split(kurtosis, 12))
    assert 3.5 < kurtosis[-50:].mean() < 0.9 * peak


@pytest.mark.parametrize("sensor", FEATURE_NAMES)
def test_a_stuck_sensor_repeats_its_last_reading_and_the_others_go_on(sensor):
    recording = faulty("stuck_sensor", 200, onset=80, sensor=sensor)
    sound = healthy(200, seed=1)
    assert (column(recording, sensor)[79:] == column(sound, sensor)[79]).all()
    for name in set(FEATURE_NAMES) - {sensor}:
        assert np.array_equal(column(recording, name), column(sound, name))


@pytest.mark.parametrize(
    ("call", "field", "remedy"),
    [
        (lambda: faulty("rust"), "fault", "bearing_wear"),
        (lambda: faulty("stuck_sensor", sensor="sound"), "sensor", "flow_rate"),
        (lambda: faulty("cavitation", 500), "onset", "n_samples - 1"),
        (lambda: faulty("cavitation", onset=0), "onset", "n_samples - 1"),
        (lambda: faulty("cavitation", severity=0), "severity", "above 0, at most 1"),
        (lambda: faulty("cavitation", severity=1.5), "severity", "above 0, at most 1"),
        (lambda: faulty("cavitation", severity=float("nan")), "severity", "above 0, at most 1"),
        (lambda: healthy(0), "n_samples", "at least 1"),
        (lambda: healthy(10, sampling_period_s=0), "sampling_period_s", "seconds"),
        (lambda: healthy(10, sampling_period_s=float("inf")), "sampling_period_s", "seconds"),
    ],
)
def test_an_error_names_the_field_and_the_remedy(call, field, remedy):
    with pytest.raises(ValueError, match=rf"^{field}: .*{remedy}"):
        call()
