"""Vigie's compiled forest as a model of MLflow's, so that its server can be measured by itself."""

from pathlib import Path
from typing import Any

import mlflow

from vigie.detectors.trained import TrainedModel


class Forest(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """Raw scores from the serving form."""

    def load_context(self, context: Any) -> None:
        self._model = TrainedModel.load(Path(context.artifacts["serving"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return the raw score of each row."""
        return self._model.raw_scores(model_input)


mlflow.models.set_model(Forest())
