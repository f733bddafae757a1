"""A backtest: honest figures, in words and as JSON, and nothing left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from vigie import cli, samples
from vigie.assessment.status import STATES
from vigie.backtest import Backtest, Confusion, backtest, usual_train_rows
from vigie.cli.render.backtest import MOST_TOLD, sentences, sheet, write_picture
from vigie.cli.render.timeline import COLOURS, MOST_BLOCKS, Blocks
from vigie.config import Settings
from vigie.errors import InvalidDataError, VigieError
from vigie.models.anomaly_data import AssetState

N_ROWS, TRAIN_ROWS, ONSET = 560, 200, 330
PNG = b"\x89PNG\r\n\x1a\n"
FOREST = ["isolation_forest"]


# Figures, counted by hand.


def flags(text: str) -> np.ndarray:
    """Return what a line of dots and crosses says."""
    return np.array([character == "x" for character in text])


def hand_made(labels: str, alarm: str, *, train_rows: int = 4, **facts: Any) -> Backtest:
    """Return a backtest with these labels of the rows and this verdict on the judged ones."""
    n = len(labels)
    assert len(alarm) == n - train_rows
    given = {
        "labels": flags(labels),
        "train_rows": train_rows,
        "left_out_rows": int(flags(labels)[:train_rows].sum()),
        "states": np.where(flags(alarm), *map(STATES.index, (AssetState.ALARM, AssetState.NORMAL))),
        "p_values": np.full(len(alarm), 0.5),
        "models": {"isolation_forest": ~flags(alarm)},
        "asset": np.full(n, 0.5),
        "contamination": 0.01,
        "alarm_limit": 0.002,
        "times": None,
        "max_gap_s": 3600.0,
    }
    return Backtest(**(given | facts))


def no_sensors(result: Backtest) -> pd.DataFrame:
    return pd.DataFrame(index=range(len(result.labels)))


def seconds(*values: float) -> np.ndarray:
    return np.datetime64("2026-01-05T08:00", "us") + (1e6 * np.array(values)).astype(
        "timedelta64[us]"
    )


EXAMPLE = ("x....xxx..xx.xx.", "x..xx.x.....")
"""Three faults after the training, rows 6-8, 11-12 and 14-15, and three alarms."""


def test_rates_and_counts_are_those_counted_by_hand():
    figures = hand_made(*EXAMPLE).figures()
    #                labels  .xxx..xx.xx.
    #                alarm   x..xx.x.....
    asset = figures["asset"]
    assert asset["confusion"] == {"tp": 2, "fp": 2, "tn": 3, "fn": 5}
    assert asset["f1"] == pytest.approx(4 / 11)
    assert asset["far"] == pytest.approx(2 / 5)
    assert asset["mar"] == pytest.approx(5 / 7)
    alone = figures["models"]["isolation_forest"]
    assert alone["confusion"] == {"tp": 5, "fp": 3, "tn": 2, "fn": 2}
    assert alone["f1"] == pytest.approx(10 / 15)
    assert figures["reading"]["confusion"] == {"tp": 0, "fp": 0, "tn": 5, "fn": 7}
    assert figures["reading"]["f1"] == 0.0
    assert (figures["train_rows"], figures["left_out_rows"], figures["judged_rows"]) == (4, 1, 12)


def test_each_fault_has_its_delay_and_an_alarm_beside_all_faults_is_false():
    asset = hand_made(*EXAMPLE).figures()["asset"]
    assert asset["event_rows"] == [[6, 8], [11, 12], [14, 15]]
    assert asset["delay_rows"] == [2, 0, None]
    assert asset["delay_s"] == [None, None, None]
    assert (asset["events"], asset["events_found"], asset["events_missed"]) == (3, 2, 1)
    assert (asset["alarms"], asset["false_alarms"]) == (3, 1)
    assert asset["alarms_per_day"] is None


def test_false_alarms_stand_beside_those_asked_for():
    # Three alarms in 11 hours, one of them false.
    times = seconds(*(3600.0 * row for row in range(16)))
    tested = hand_made(*EXAMPLE, times=times, false_alarms_per_month=15.0)
    asset = tested.figures()["asset"]
    assert asset["false_alarms_per_day"] == pytest.approx(2.0)
    assert asset["asked_false_alarms_per_day"] == pytest.approx(0.5)
    [told] = [line for line in sentences(tested) if line.startswith("false alarms")]
    assert told == (
        "false alarms: 1 in 12 h; asked for: at most 0.5 a day, 15 a month "
        "(one in 2 days: these rows are too few to tell)"
    )
    often = hand_made(*EXAMPLE, times=times, false_alarms_per_month=600.0)
    assert any(line.endswith("at most 20 a day, 600 a month") for line in sentences(often))
    unasked = hand_made(*EXAMPLE, times=times)
    assert unasked.figures()["asset"]["asked_false_alarms_per_day"] is None
    assert not any(line.startswith("false alarms") for line in sentences(unasked))


def test_an_alarm_is_an_event_that_knows_its_rows_and_the_worst_of_them():
    asset = np.full(8, 0.5)
    asset[[1, 5]] = 1e-9, 1e-4
    [first, second] = hand_made("........", "xx.x", asset=asset).alarms
    assert (first.first, first.peak, first.last, first.p_value) == (4, 5, 5, 1e-4)
    assert (second.first, second.last) == (7, 7)


def test_odd_readings_outside_of_an_alarm_are_events_but_no_alarms():
    p_values = np.array([1e-5, 0.5, 1e-5, 0.5])
    result = hand_made("........", "x...", p_values=p_values)
    assert [(event.state, event.first, event.n_anomalies) for event in result.events] == [
        (AssetState.ALARM, 4, 1),
        (None, 6, 1),
    ]
    assert len(result.alarms) == 1


def test_every_one_of_very_many_alarms_is_counted():
    figures = hand_made("...." + ".." * 500, "x." * 500).figures()["asset"]
    assert (figures["alarms"], figures["false_alarms"]) == (500, 500)


def test_a_delay_in_seconds_is_told_by_the_times():
    times = seconds(0, 1, 2, 3, 4, 10, 20.5, 40, 50)
    asset = hand_made(".....xxx.", "...x.", times=times).figures()["asset"]
    assert asset["delay_rows"] == [2]
    assert asset["delay_s"] == [30.0]


def test_an_alarm_that_stood_when_the_fault_began_finds_it_at_once_and_is_not_false():
    asset = hand_made("......xx..", "xxx...").figures()["asset"]
    assert asset["delay_rows"] == [0]
    assert (asset["alarms"], asset["false_alarms"]) == (1, 0)


def test_a_fault_that_begins_in_the_training_rows_is_judged_from_the_first_row_after_them():
    asset = hand_made("..xxxx..", ".x..").figures()["asset"]
    assert asset["event_rows"] == [[5, 6]]
    assert asset["delay_rows"] == [1]


def test_alarms_per_day_count_the_time_in_which_something_was_recorded():
    hour = 3600.0
    times = seconds(0, 1, 2, 3, hour, 11 * hour, 11.5 * hour, 12 * hour)
    figures = hand_made("........", "x.x.", times=times).figures()
    assert figures["judged_s"] == pytest.approx(2 * hour - 3)
    assert figures["asset"]["alarms_per_day"] == pytest.approx(2 * 24 * hour / (2 * hour - 3))


@pytest.mark.parametrize(
    ("labels", "undefined"), [("....", ["f1", "mar"]), ("xxxx", ["far"]), ("xx..", [])]
)
def test_a_rate_of_no_rows_is_undefined_instead_of_zero(labels, undefined):
    figures = hand_made("...." + labels, "x..x").figures()["asset"]
    assert [name for name in ("f1", "far", "mar") if figures[name] is None] == undefined


def test_counts_of_several_files_are_pooled_by_adding_them():
    said, labels = flags("xx..x."), flags("x.x.x.")
    parts = Confusion.of(said[:2], labels[:2]) + Confusion.of(said[2:], labels[2:])
    assert parts == Confusion.of(said, labels) == Confusion(tp=2, fp=1, tn=2, fn=1)


def test_the_sentences_say_what_an_operator_lived_through():
    times = seconds(*np.arange(16) * 60)
    told = sentences(hand_made(*EXAMPLE, times=times))
    assert told == [
        "trained on rows 1–4 (left out as labelled: 1); "
        "assessed rows 5–16 (2026-01-05 08:04:00 to 08:15:00 UTC, 11 min)",
        "fault in rows 6–8 (2026-01-05 08:05:00 to 08:07:00 UTC, 2 min): "
        "found after 2 rows (2 min)",
        "fault in rows 11–12 (2026-01-05 08:10:00 to 08:11:00 UTC, 60 s): found at once",
        "fault in rows 14–15 (2026-01-05 08:13:00 to 08:14:00 UTC, 60 s): missed",
        "3 alarms in 12 min, 1 false (rate: 5 an hour)",
        "false alarm in row 5 (2026-01-05 08:04:00 UTC)",
        "alarm in 4 of 12 assessed rows",
    ]


def test_of_very_many_faults_the_first_are_told_one_by_one_and_the_others_counted():
    told = sentences(hand_made("...." + ".x" * 50, "." * 50 + ".x" * 25))
    assert sum(sentence.startswith("fault in row ") for sentence in told) == MOST_TOLD
    assert told[-3:] == [
        "25 of 50 faults found in total",
        "25 alarms, none false",
        "alarm in 25 of 100 assessed rows",
    ]


def test_without_a_labelled_row_the_sentences_say_why_alarms_are_false():
    told = sentences(hand_made("........", ".x.."))
    assert "none of these is labelled" in told[1]
    assert told[2:] == [
        "1 alarm, 1 false",
        "false alarm in row 6",
        "alarm in 1 of 4 assessed rows",
    ]


@pytest.mark.parametrize(
    ("step_s", "said"),
    [(60.0, "(rate"), (240.0, "(rate: 3.75 an hour)"), (86_400.0, "(rate: 0.25 a day)")],
)
def test_a_rate_is_told_in_a_unit_that_the_recording_is_long_enough_for(step_s, said):
    times = seconds(*np.arange(8) * step_s)
    result = hand_made("........", "x...", times=times, max_gap_s=1e6)
    [told] = [line for line in sentences(result) if line.startswith("1 alarm")]
    assert (said in told) is (step_s > 60.0)


def test_figures_say_when_faults_and_alarms_were():
    times = seconds(*np.arange(16) * 60)
    asset = hand_made(*EXAMPLE, times=times).figures()["asset"]
    assert asset["event_times"][0] == ["2026-01-05T08:05:00Z", "2026-01-05T08:07:00Z"]
    assert asset["alarm_rows"] == [[5, 5], [8, 9], [11, 11]]
    assert asset["alarm_times"][1] == ["2026-01-05T08:07:00Z", "2026-01-05T08:08:00Z"]
    assert asset["alarm_durations_s"] == [0.0, 60.0, 0.0]
    assert hand_made(*EXAMPLE).figures()["asset"]["alarm_times"] == [None] * 3


def test_rows_in_drift_and_with_bad_data_are_told_beside_those_in_alarm(tmp_path):
    named = [AssetState.NORMAL, AssetState.ALARM, *3 * [AssetState.DRIFT], AssetState.BAD_DATA]
    states = np.array([STATES.index(state) for state in named])
    result = hand_made("....xxx...", "......", states=states)
    assert result.figures()["asset"]["rows_in_state"] == {
        "alarm": 1,
        "unknown_operating_point": 0,
        "drift": 3,
        "bad_data": 1,
    }
    assert [(event.state, event.first, event.n_rows) for event in result.events] == [
        (AssetState.ALARM, 5, 1),
        (AssetState.DRIFT, 6, 3),
        (AssetState.BAD_DATA, 9, 1),
    ]
    assert sentences(result)[-1] == "alarm in 1, drift in 3, bad data in 1 of 6 assessed rows"
    text = io.StringIO()
    Console(width=80, file=text).print(sheet({None: result}))
    [line] = [line for line in text.getvalue().splitlines() if "in drift" in line]
    assert line.replace("│", " ").split() == ["in", "drift", "–", "–", "–", "1", "2", "–", "–"]
    write_picture(result, tmp_path / "drift.png", no_sensors(result))
    assert (tmp_path / "drift.png").read_bytes().startswith(PNG)


def test_faulty_rows_in_drift_are_told_beside_those_that_an_alarm_found():
    names = [AssetState.ALARM, *2 * [AssetState.DRIFT], AssetState.WATCH, *2 * [AssetState.NORMAL]]
    states = np.array([STATES.index(state) for state in names])
    told = sentences(hand_made("....xxxxx.", "......", states=states))
    assert (
        "machine's state in the 5 faulty rows: alarm in 1, drift in 2, watch in 1, normal in 1. "
        "Only alarm counts as found: MAR takes all others for missed"
    ) in told


def test_a_high_rate_of_unusual_readings_behind_a_fault_is_explained():
    behind = dataclasses.replace(
        hand_made("...." + "." * 50 + "x" * 20 + "." * 50, "." * 120),
        p_values=np.array([0.5] * 50 + [1e-9] * 70),
    )
    [told] = [line for line in sentences(behind) if line.startswith("single readings")]
    assert "unusual in 50.0% of the healthy rows" in told
    assert "all of these 50 rows follow a fault" in told
    before = dataclasses.replace(behind, p_values=np.array([1e-9] * 50 + [0.5] * 70))
    [told] = [line for line in sentences(before) if line.startswith("single readings")]
    assert "not as the training rows are" in told


def test_a_recording_that_mostly_drifts_says_that_the_machine_has_moved():
    drift = STATES.index(AssetState.DRIFT)
    half = hand_made("........", "....", states=np.array([0, 0, drift, drift]))
    most = hand_made("........", "....", states=np.array([0, drift, drift, drift]))
    assert "train again" not in " ".join(sentences(half))
    assert "the machine has moved away" in sentences(most)[-1]
    assert "train again" in sentences(most)[-1]


# Training and judging.


@dataclass(frozen=True)
class Data:
    """A recording as people have it, and its parts."""

    features: pd.DataFrame
    labels: np.ndarray
    times: np.ndarray

    @property
    def table(self) -> pd.DataFrame:
        table = self.features.copy()
        table.insert(0, "time", pd.Series(self.times).dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        table["fault"] = self.labels
        table["shift"] = "early"
        return table


@pytest.fixture(scope="module")
def data() -> Data:
    recording = samples.faulty("bearing_wear", N_ROWS, onset=ONSET)
    table = pd.DataFrame(recording.data, columns=list(samples.FEATURE_NAMES))
    return Data(table, recording.labels, recording.timestamps.astype("datetime64[us]"))


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings(n_estimators=25)


@pytest.fixture(scope="module")
def judged(data: Data, settings: Settings) -> Backtest:
    names = ["isolation_forest", "one_class_svm"]
    return backtest(data.features, data.labels, TRAIN_ROWS, settings, data.times, names)


def test_a_fault_of_the_bench_is_found_after_a_while(judged):
    asset = judged.figures()["asset"]
    assert asset["event_rows"] == [[ONSET + 1, N_ROWS]]
    [delay] = asset["delay_rows"]
    assert 0 < delay < 150
    assert judged.alarm[ONSET - TRAIN_ROWS + delay]
    assert not judged.alarm[ONSET - TRAIN_ROWS : ONSET - TRAIN_ROWS + delay].any()
    assert asset["delay_s"] == [float(delay)]
    assert asset["far"] < 0.05


def test_every_row_after_the_training_gets_every_verdict(judged):
    assert list(judged.models) == ["isolation_forest", "one_class_svm"]
    for verdict in (judged.alarm, judged.reading, *judged.models.values()):
        assert verdict.shape == (N_ROWS - TRAIN_ROWS,)
        assert verdict.dtype == bool
        assert verdict.any()


def test_a_model_alone_is_judged_as_if_there_were_no_other(judged, data, settings):
    alone = backtest(data.features, data.labels, TRAIN_ROWS, settings, data.times, FOREST)
    np.testing.assert_array_equal(alone.alarm, judged.models["isolation_forest"])


def test_a_row_is_judged_by_what_came_before_it_only(judged, data, settings):
    changed = data.features.copy()
    changed.iloc[450:] *= 3.0
    names = list(judged.models)
    other = backtest(changed, data.labels, TRAIN_ROWS, settings, data.times, names)
    before = slice(450 - TRAIN_ROWS)
    np.testing.assert_array_equal(other.alarm[before], judged.alarm[before])
    np.testing.assert_array_equal(other.reading[before], judged.reading[before])
    np.testing.assert_array_equal(other.asset[:450], judged.asset[:450])


def test_labels_are_not_shown_to_the_models_after_the_training(judged, data, settings):
    nothing = np.zeros(N_ROWS)
    blind = backtest(data.features, nothing, TRAIN_ROWS, settings, data.times, list(judged.models))
    np.testing.assert_array_equal(blind.alarm, judged.alarm)


def test_labelled_rows_among_the_first_are_not_trained_on(data, settings):
    labels = data.labels.copy()
    labels[80:100] = 1
    verdicts = []
    for factor in (2.0, 5.0):
        odd = data.features.copy()
        odd.iloc[80:100] *= factor
        result = backtest(odd, labels, TRAIN_ROWS, settings, data.times, FOREST)
        assert result.left_out_rows == 20
        verdicts.append(result)
    np.testing.assert_array_equal(verdicts[0].asset[TRAIN_ROWS:], verdicts[1].asset[TRAIN_ROWS:])
    assert verdicts[0].figures()["asset"]["events"] == 1


def test_an_alarm_among_the_training_rows_is_no_alarm_and_does_not_last_beyond_them(data, settings):
    labels = data.labels.copy()
    labels[120:150] = 1
    odd = data.features.copy()
    odd.iloc[120:150] *= 3.0
    result = backtest(odd, labels, TRAIN_ROWS, settings, data.times, FOREST)
    assert result.asset[:TRAIN_ROWS][120:150].min() < 0.02
    assert result.alarms
    assert all(alarm.first >= TRAIN_ROWS for alarm in result.alarms)
    assert not result.alarm[0]


def test_a_row_with_a_missing_value_is_judged_by_the_other_sensors(data, settings):
    gap = data.features.copy()
    gap.loc[N_ROWS - 20 :, "flow_rate"] = np.nan
    result = backtest(gap, data.labels, TRAIN_ROWS, settings, data.times, FOREST)
    assert result.reading[-20:].all()


def test_progress_is_told_from_the_training_to_the_end(data, settings):
    told: list[tuple[str, float]] = []
    backtest(
        data.features,
        data.labels,
        TRAIN_ROWS,
        settings,
        model_names=FOREST,
        progress=lambda step, share: told.append((step, share)),
    )
    shares = [share for _, share in told]
    assert shares[-1] == 1.0
    assert max(shares) == 1.0
    assert any("isolation_forest" in step for step, _ in told)


@pytest.mark.parametrize(
    ("n_rows", "labelled", "expected"),
    [(10, [], 4), (10, [7], 4), (10, [2, 3], 2), (1000, [400], 400), (1000, [401], 400)],
)
def test_by_default_the_rows_before_the_first_fault_are_trained_on(n_rows, labelled, expected):
    labels = np.zeros(n_rows, dtype=bool)
    labels[labelled] = True
    assert usual_train_rows(labels) == expected


@pytest.mark.parametrize("train_rows", [-1, 0, N_ROWS, N_ROWS + 1])
def test_a_split_that_leaves_nothing_on_one_side_is_refused(data, settings, train_rows):
    with pytest.raises(InvalidDataError, match=f"--train-rows: {train_rows} of {N_ROWS} rows"):
        backtest(data.features, data.labels, train_rows, settings)


def test_labels_for_other_rows_are_refused(data, settings):
    with pytest.raises(InvalidDataError, match="one label for each row"):
        backtest(data.features, data.labels[:-1], TRAIN_ROWS, settings)


def test_a_detector_that_cannot_learn_from_so_few_rows_is_named(data, settings):
    with pytest.raises(VigieError, match=r"lstm_autoencoder cannot be trained on 30 rows.* 40"):
        backtest(data.features, data.labels, 30, settings, model_names=["lstm_autoencoder"])


# The picture.


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["." * 40, ".x" * 20, "." * 20 + "x" * 20])
@pytest.mark.parametrize("alarm", ["." * 30, "x.x" * 10])
def test_any_backtest_can_be_drawn(labels, alarm, tmp_path):
    asset = np.geomspace(1.0, 1e-30, 40)
    asset[:3] = np.nan
    result = hand_made(labels, alarm, train_rows=10, asset=asset)
    write_picture(result, tmp_path / "line.png", no_sensors(result))
    assert (tmp_path / "line.png").read_bytes().startswith(PNG)


def of_colour(path: Path, colour: str) -> np.ndarray:
    """Return which pixels of a picture have a colour, such as #8e5bb5, shape (height, width)."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return (pixels == [int(colour[at : at + 2], 16) for at in (1, 3, 5)]).all(axis=2)


def test_the_picture_has_each_state_in_a_colour_of_its_own(tmp_path):
    names = [AssetState.UNKNOWN_OPERATING_POINT, AssetState.DRIFT, AssetState.BAD_DATA]
    states = np.repeat([STATES.index(state) for state in names], 4)
    result = hand_made("." * 16, "." * 12, states=states)
    write_picture(result, tmp_path / "line.png", no_sensors(result))
    widths = []
    for state in names:
        marked = of_colour(tmp_path / "line.png", COLOURS[state])
        # The bar, and below the plot its entry in the legend.
        bar, entry = marked[: len(marked) // 2], marked[len(marked) // 2 :]
        assert bar.any()
        assert entry.any()
        widths.append(bar.any(axis=0).sum())
    assert max(widths) - min(widths) <= 3
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_a_recording_that_is_mostly_run_as_never_seen_says_what_to_do():
    unknown = STATES.index(AssetState.UNKNOWN_OPERATING_POINT)
    most = hand_made("........", "....", states=np.array([0, unknown, unknown, unknown]))
    assert "--context" in sentences(most)[-1]
    half = hand_made("........", "....", states=np.array([0, 0, unknown, unknown]))
    assert "--context" not in sentences(half)[-1]


def test_a_picture_of_an_asset_on_which_nothing_could_be_said_is_empty_but_drawn(tmp_path):
    result = dataclasses.replace(hand_made(*EXAMPLE), asset=np.full(16, np.nan))
    write_picture(result, tmp_path / "line.png", no_sensors(result))
    assert (tmp_path / "line.png").read_bytes().startswith(PNG)


def test_a_picture_of_very_many_rows_keeps_the_extremes_and_few_points():
    values = np.zeros((50_000, 1))
    values[33_333], values[44_444] = 7.0, -7.0
    p_values = np.full(50_000, 0.5)
    p_values[12_345] = 1e-9
    blocks = Blocks()
    for rows in np.split(np.arange(50_000), [11, 40_000]):
        blocks.add(rows.astype(float), p_values[rows], values[rows])
    assert len(blocks.x) <= MOST_BLOCKS
    assert (blocks.high.max(), blocks.low.min()) == (7.0, -7.0)
    assert blocks.x[blocks.high.argmax()] <= 33_333 < blocks.x[blocks.high.argmax() + 1]
    assert blocks.surprise.max() == pytest.approx(9.0)


# The command.


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str


def vigie(folder: Path, *arguments: str) -> Finished:
    """Run a command in a folder, with tracking as it is by default: enabled."""
    out, err = io.StringIO(), io.StringIO()
    level = logging.getLogger("vigie").level
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VIGIE_N_ESTIMATORS", "25")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'runs.db'}")
        patch.setattr(sys, "argv", ["vigie", *arguments])
        patch.setattr(sys, "excepthook", sys.excepthook)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            logging.getLogger("vigie").setLevel(level)
    return Finished(code, out.getvalue(), err.getvalue())


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Path:
    made = tmp_path_factory.mktemp("backtests")
    data.table.to_csv(made / "pump.csv", sep=";", index=False)
    return made


CHOSEN = ["--model", "isolation_forest", "--train-rows", str(TRAIN_ROWS)]


@pytest.fixture(scope="module")
def as_json(folder: Path) -> Finished:
    command = [
        "pump.csv",
        "--labels",
        "fault",
        *CHOSEN,
        "--format",
        "json",
        "--picture",
        "line.png",
    ]
    return vigie(folder, "backtest", *command)


def test_json_is_all_that_stands_on_standard_output_and_follows_from_its_own_counts(as_json):
    assert as_json.code == 0, as_json.err

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    figures = json.loads(as_json.out, parse_constant=no_constant)
    assert (figures["train_rows"], figures["judged_rows"]) == (TRAIN_ROWS, N_ROWS - TRAIN_ROWS)
    assert figures["contamination"] == Settings().contamination
    assert list(figures["models"]) == FOREST
    for verdict in (figures["asset"], figures["reading"], *figures["models"].values()):
        tp, fp, tn, fn = (verdict["confusion"][name] for name in ("tp", "fp", "tn", "fn"))
        assert (tp + fn, fp + tn) == (N_ROWS - ONSET, ONSET - TRAIN_ROWS)
        assert math.isclose(verdict["f1"], 2 * tp / (2 * tp + fp + fn))
        assert math.isclose(verdict["far"], fp / (fp + tn))
        assert math.isclose(verdict["mar"], fn / (fn + tp))


def test_neither_label_nor_time_nor_text_is_a_feature(as_json, data, settings):
    result = backtest(data.features, data.labels, TRAIN_ROWS, settings, data.times, FOREST)
    assert json.loads(as_json.out) == result.figures()


def test_the_picture_is_a_png(as_json, folder):
    assert as_json.code == 0, as_json.err
    assert (folder / "line.png").read_bytes().startswith(PNG)


def test_a_backtest_leaves_no_run_no_model_and_no_history(as_json, folder):
    assert as_json.code == 0, as_json.err
    assert {path.name for path in folder.iterdir()} <= {"pump.csv", "line.png"}


def test_the_table_has_each_verdict_and_sentences_below_it(folder):
    done = vigie(folder, "backtest", "pump.csv", "--labels", "fault", *CHOSEN)
    assert done.code == 0, done.err
    said = words(done.out)
    for part in (
        "machine's state",
        "isolation_forest alone",
        "single readings",
        "F1",
        "FAR",
        "MAR",
    ):
        assert f" {part} " in said
    assert f"trained on rows 1–{TRAIN_ROWS}; assessed rows {TRAIN_ROWS + 1}–{N_ROWS}" in said
    assert f"fault in rows {ONSET + 1}–{N_ROWS} (" in said


def test_without_labels_every_row_counts_as_healthy(folder):
    chosen = ["--exclude", "fault", "--model", "isolation_forest", "--format", "json"]
    done = vigie(folder, "backtest", "pump.csv", *chosen)
    assert done.code == 0, done.err
    figures = json.loads(done.out)
    assert figures["train_rows"] == int(0.4 * N_ROWS)
    asset = figures["asset"]
    assert (asset["f1"], asset["mar"], asset["events"]) == (None, None, 0)
    assert asset["far"] == asset["confusion"]["fp"] / figures["judged_rows"]
    assert asset["alarms"] == asset["false_alarms"] > 0


def test_the_label_may_also_be_named_among_the_excluded(folder):
    chosen = ["--labels", "fault", "--exclude", "fault", "--feature", "vibration_kurtosis"]
    done = vigie(folder, "backtest", "pump.csv", *chosen, *CHOSEN, "--format", "json")
    assert done.code == 0, done.err


@pytest.fixture(scope="module")
def odd_files(folder: Path, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("odd")
    data.table.to_csv(made / "pump.csv", index=False)
    data.table.assign(fault=1).to_csv(made / "faulty.csv", index=False)
    data.table.iloc[ONSET:].assign(fault=[1, *[0] * (N_ROWS - ONSET - 1)]).to_csv(
        made / "first.csv", index=False
    )
    data.table.iloc[:0].to_csv(made / "header.csv", index=False)
    data.table.iloc[:1].to_csv(made / "short.csv", index=False)
    return made


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.csv", "--labels", "fault"], ["no file nowhere.csv"]),
        (["pump.csv", "--labels", "colour"], ["--labels: There is no column colour", "fault"]),
        (["pump.csv", "--labels", "shift"], ["--labels", "words: 'early'", "--fault-word"]),
        (["pump.csv", "--labels", "fault", "--feature", "fault"], ["--feature: fault is the"]),
        (["pump.csv", "--labels", "fault", "--exclude", "colour"], ["--exclude", "colour"]),
        (["pump.csv", "--labels", "fault", "--time", "shift"], ["shift", "--time-format"]),
        (["pump.csv", "--labels", "fault", "--model", "forest"], ["no detector 'forest'"]),
        (["pump.csv", "--labels", "fault", "--train-rows", "0"], ["nothing to train on"]),
        (
            ["pump.csv", "--labels", "fault", "--train-rows", "560"],
            ["no row to assess", "1 to 559"],
        ),
        (["pump.csv", "--labels", "fault", "--train-rows", "3"], ["cannot be trained on 3 rows"]),
        (["faulty.csv", "--labels", "fault"], ["--labels: Every row is labelled"]),
        (["faulty.csv", "--labels", "fault", "--train-rows", "9"], ["All of the first 9 rows"]),
        (["first.csv", "--labels", "fault"], ["The first row is labelled", "--train-rows"]),
        (["short.csv", "--labels", "fault"], ["FILE: Too few rows", ": 1."]),
        (["header.csv", "--labels", "fault"], ["FILE: No column holds readings"]),
    ],
)
def test_an_error_says_what_is_wrong_in_one_line(odd_files, arguments, said):
    done = vigie(odd_files, "backtest", *arguments)
    assert done.code == 1, done.out + done.err
    assert done.out == ""
    [line] = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    for part in said:
        assert part in line
    assert "Traceback" not in done.err


def test_a_picture_that_cannot_be_written_is_an_error_before_anything_is_computed(odd_files):
    chosen = [*CHOSEN, "--format", "json", "--picture", "nowhere/line.png"]
    done = vigie(odd_files, "backtest", "pump.csv", "--labels", "fault", *chosen)
    assert done.code == 1
    assert "--picture: There is no folder nowhere" in done.err
    assert done.out == ""
