"""The figures of a training, drawn from what the outbox keeps for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vigie import samples
from vigie.config import Settings
from vigie.detectors.trained import TrainedModel
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.tracking.figure_data import FigureData
from vigie.tracking.figures import write_figures

ROWS = samples.healthy(1000).data
NAMES = [name.replace("_rms", "$rms") for name in samples.FEATURE_NAMES]


@pytest.fixture(scope="module")
def models() -> dict[str, TrainedModel]:
    settings = Settings(
        mlflow_enabled=False,
        n_estimators=20,
        epochs=3,
        encoder_layers=(8,),
        decoder_layers=(8,),
        sequence_length=5,
    )
    trained: list[TrainedModel] = []
    AnomalyDetectionService(settings).train_all_models(
        ROWS,
        NAMES,
        model_names=["isolation_forest", "lstm_autoencoder"],
        on_trained=trained.append,
    )
    return {model.algorithm: model for model in trained}


def drawn(model: TrainedModel, folder: Path) -> dict[str, Image.Image]:
    scores = 1.0 - model.calibration.p_value(model.raw_scores_of_rows(ROWS))
    data = FigureData.of(model, ROWS, scores, {NAMES[0]: "mm/s"})
    data.save(folder / "data.npz")
    write_figures(model, FigureData.load(folder / "data.npz"), folder / "figures")
    figures = {}
    for path in (folder / "figures").glob("*.png"):
        with Image.open(path) as figure:
            figures[path.name] = figure.convert("RGBA")
    return figures


@pytest.mark.parametrize("name", ["isolation_forest", "lstm_autoencoder"])
def test_every_model_shows_its_training_rows_and_scores_on_a_solid_ground(models, name, tmp_path):
    figures = drawn(models[name], tmp_path)
    assert figures.keys() >= {"training_rows.png", "score_distribution.png", "sensor_spread.png"}
    for figure in figures.values():
        assert figure.width >= 1000
        corner = figure.getpixel((0, 0))
        assert corner == (255, 255, 255, 255)


def test_the_loss_of_held_out_windows_is_known_of_every_epoch(models, tmp_path):
    model = models["lstm_autoencoder"]
    assert len(model.validation_loss_by_epoch) >= len(model.loss_by_epoch) >= 1
    assert (
        min(model.validation_loss_by_epoch)
        == (model.validation_loss_by_epoch[len(model.loss_by_epoch) - 1])
    )
    assert "loss.png" in drawn(model, tmp_path)


def test_the_tail_of_the_scores_keeps_the_highest_ones(models):
    scores = np.linspace(0.0, 0.999, len(ROWS))
    data = FigureData.of(models["isolation_forest"], ROWS, scores)
    assert (data.ranks[0], data.ranks[-1]) == (1, len(ROWS))
    assert (data.ranked[0], data.ranked[-1]) == (0.999, 0.0)


def test_figures_are_drawn_of_data_that_an_earlier_version_kept(models, tmp_path):
    model = models["isolation_forest"]
    data = FigureData.of(model, ROWS, np.linspace(0.0, 0.999, len(ROWS)))
    kept = ("n_rows", "scores", "rows", "windows", "outliers", "loss_by_epoch")
    np.savez(tmp_path / "old.npz", **{name: getattr(data, name) for name in kept})
    write_figures(model, FigureData.load(tmp_path / "old.npz"), tmp_path)
    assert (tmp_path / "score_distribution.png").exists()
    assert not (tmp_path / "training_rows.png").exists()


def test_training_rows_stand_at_their_times_where_these_ascend(models, tmp_path):
    model, scores = models["isolation_forest"], np.linspace(0.0, 0.999, len(ROWS))
    times = np.datetime64("2026-01-05T08:00", "us") + np.arange(len(ROWS)) * np.timedelta64(1, "m")
    # A night without readings.
    times[500:] += np.timedelta64(12, "h")
    pictures = set()
    for name, given in (("rows", None), ("times", times), ("backwards", times[::-1])):
        FigureData.of(model, ROWS, scores, times=given).save(tmp_path / "data.npz")
        write_figures(model, FigureData.load(tmp_path / "data.npz"), tmp_path / name)
        pictures.add((tmp_path / name / "training_rows.png").read_bytes())
    assert len(pictures) == 2
