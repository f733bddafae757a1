"""The guide's service for the LSTM autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vigie.config import Settings
from vigie.services.detector_service import DetectorService, checked_threshold
from vigie.services.mlflow_service import MLflowService


class LSTMAutoencoderService(DetectorService):
    """Train a PyTorch LSTM autoencoder, predict with it, register it as ``lstm_autoencoder``.

    Parameters
    ----------
    encoder_layers, decoder_layers : sequence of int, optional
        Hidden units of each layer, in the order of the data flow.
    sequence_length : int, optional
        Consecutive rows in a window.
    batch_size, epochs : int, optional
        Of the training; with early stopping, ``epochs`` is an upper bound.
    learning_rate : float, optional
        Of the optimiser (Adam).
    threshold : float in (0, 1), optional
        A score above it is an anomaly; by default ``1 - contamination``.
    contamination : float in (0, 0.5), optional
        Share of healthy readings that may be called anomalous.
    settings : Settings, optional
        Defaults of all other arguments; read from the environment and ``.env`` if not given.
    mlflow_service : MLflowService, optional
        Records the trainings; by default created from the settings.

    Examples
    --------
    >>> LSTMAutoencoderService(encoder_layers=[16, 8], decoder_layers=[8, 16]).encoder_layers
    [16, 8]
    """

    name = algorithm_name = "lstm_autoencoder"

    encoder_layers: list[int]
    decoder_layers: list[int]
    sequence_length: int
    batch_size: int
    epochs: int
    learning_rate: float

    def __init__(
        self,
        *,
        encoder_layers: Sequence[int] | None = None,
        decoder_layers: Sequence[int] | None = None,
        sequence_length: int | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
        threshold: float | None = None,
        contamination: float | None = None,
        settings: Settings | None = None,
        mlflow_service: MLflowService | None = None,
    ):
        given = {
            "encoder_layers": encoder_layers,
            "decoder_layers": decoder_layers,
            "sequence_length": sequence_length,
            "batch_size": batch_size,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "contamination": contamination,
        }
        super().__init__(given, settings, mlflow_service)
        if threshold is not None:
            self._threshold = checked_threshold(threshold, within="(0, 1)")

    def reconstruction_error(self, X: Any) -> Any:
        """Return the reconstruction error of the window that ends with each row, (n_samples,).

        In squared standard deviations of the training data, averaged over sensors and window;
        increased if the row is outside the range of the training data.
        """
        return self._ready().model.reconstruction_error(X)

    def get_model_info(self) -> dict[str, Any]:
        """Return the facts of the model, and the device that training uses."""
        from vigie.detectors.lstm_autoencoder.detector import available_device

        return super().get_model_info() | {"device": available_device()}
