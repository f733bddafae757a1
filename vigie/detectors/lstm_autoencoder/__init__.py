"""LSTM autoencoder: the error with which a network of healthy sequences reconstructs a window."""

from __future__ import annotations

import numpy as np

from vigie.detectors.base import Algorithm, Arrays, Detector, Floats, Params
from vigie.detectors.lstm_autoencoder.check import check


def _new_detector(params: Params, random_state: int) -> Detector:
    from vigie.detectors.lstm_autoencoder.detector import LSTMAutoencoder

    return LSTMAutoencoder(
        encoder_layers=tuple(params["encoder_layers"]),
        decoder_layers=tuple(params["decoder_layers"]),
        sequence_length=params["sequence_length"],
        batch_size=params["batch_size"],
        epochs=params["epochs"],
        learning_rate=params["learning_rate"],
        random_state=random_state,
    )


def _score(arrays: Arrays, params: Params, windows: Floats) -> Floats:
    """Return the reconstruction error of windows of shape (n_windows, window, n_features).

    The mean squared error, plus a penalty for the last row, since a single far value hardly
    changes the mean: its squared distance from the bounding box of the training rows counts as
    the error of a whole row.
    """
    from vigie.detectors.lstm_autoencoder.score import raw_scores

    return raw_scores(arrays, np.asarray(windows, dtype=np.float64))


def _explain(arrays: Arrays, params: Params, windows: Floats) -> Floats:
    """Return squared errors of shape (n_windows, window, n_features), in standard deviations²."""
    from vigie.detectors.lstm_autoencoder.score import reconstruction_errors

    return reconstruction_errors(arrays, np.asarray(windows, dtype=np.float64))


ALGORITHM = Algorithm(
    name="lstm_autoencoder",
    parameters=(
        "encoder_layers",
        "decoder_layers",
        "sequence_length",
        "batch_size",
        "epochs",
        "learning_rate",
    ),
    new_detector=_new_detector,
    score=_score,
    check=check,
    rows=lambda params: int(params["sequence_length"]),
    compiled=("vigie.detectors.lstm_autoencoder.score",),
    compiled_to_fit=("vigie.detectors.lstm_autoencoder.fit",),
    flavor="torch",
    explain=_explain,
    reconstructs=True,
    relative_cost=5.0,
    # Three networks raise alarms at the same rate as five. Two, each of half of the rows, know too
    # little: on steady machines they raise three quarters of the alarms that are asked for.
    calibration_fits=3,
)
