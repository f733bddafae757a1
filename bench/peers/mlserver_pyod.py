"""A runtime for MLServer around an estimator of PyOD, from the pickle in FOREST."""

import os
import pickle
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Forest(MLModel):
    """Score the first input's rows."""

    async def load(self) -> bool:
        self._forest = pickle.loads(Path(os.environ["FOREST"]).read_bytes())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        scores = self._forest.decision_function(NumpyCodec.decode_input(payload.inputs[0]))
        output = NumpyCodec.encode_output("scores", scores)
        return InferenceResponse(model_name=self.name, outputs=[output])
