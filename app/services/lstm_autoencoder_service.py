"""Hands on ``vigie.services.lstm_autoencoder_service``."""

from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService

__all__ = ["LSTMAutoencoderService"]
