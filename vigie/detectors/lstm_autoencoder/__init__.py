"""LSTM autoencoder: how badly a network that knows healthy sequences restores this one."""

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
    """Return the error of restoring windows of shape (n_windows, window, n_features).

    The mean squared error, in which a single far value would be lost among all the others; so
    how far the last row leaves the box of all training rows counts as the error of a whole row.
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
    compiled=("vigie.detectors.lstm_autoencoder.score",),
    compiled_to_fit=("vigie.detectors.lstm_autoencoder.fit",),
    flavor="torch",
    explain=_explain,
    reconstructs=True,
)
