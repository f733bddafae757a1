"""The LSTM autoencoder of the guide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vigie.config import Settings
from vigie.services.detector_service import DetectorService, checked_threshold
from vigie.services.mlflow_service import MLflowService


class LSTMAutoencoderService(DetectorService):
    """Train, ask and register an LSTM autoencoder (PyTorch) as ``lstm_autoencoder``.

    Parameters
    ----------
    encoder_layers, decoder_layers : sequence of int, optional
        Hidden units of each layer, in the order in which the data pass them.
    sequence_length : int, optional
        Consecutive rows that are judged together.
    batch_size, epochs : int, optional
        Of the training; epochs at most, for it ends when more of them gain nothing.
    learning_rate : float, optional
        Rate of the optimiser (Adam).
    threshold : float in (0, 1), optional
        A score above it is an anomaly; by default ``1 - contamination``.
    contamination : float in (0, 0.5), optional
        Share of healthy readings that may be called anomalous.
    settings : Settings, optional
        Where all that is not given comes from; by default the environment and ``.env``.
    mlflow_service : MLflowService, optional
        Where trainings are recorded; by default made from the settings.

    Examples
    --------
    >>> LSTMAutoencoderService(encoder_layers=[16, 8], decoder_layers=[8, 16]).encoder_layers
    [16, 8]
    """

    name = "lstm_autoencoder"

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
        """Return the error of restoring the window that ends with each row, shape (n_samples,).

        In squared standard deviations of the training data, averaged over sensors and window;
        more where the row lies outside the range of the training data.
        """
        return self._ready().model.reconstruction_error(X)

    def get_model_info(self) -> dict[str, Any]:
        """Return what there is to know about the model, and the device that training uses."""
        from vigie.detectors.lstm_autoencoder.detector import available_device

        return super().get_model_info() | {"device": available_device()}
