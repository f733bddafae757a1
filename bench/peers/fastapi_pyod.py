"""What people write first: FastAPI around an estimator of PyOD, from the pickle in FOREST."""

import os
import pickle
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
forest = pickle.loads(Path(os.environ["FOREST"]).read_bytes())


class Rows(BaseModel):
    """Rows to score."""

    rows: list[list[float]]


@app.post("/score")
def score(body: Rows) -> dict[str, list[float]]:
    """Return the raw score of each row."""
    return {"scores": forest.decision_function(np.array(body.rows)).tolist()}
