"""What the processes of ``forked`` work with: the libraries of a training, and MLflow's server."""

# ruff: noqa: E402, F401
import gc

from vigie import garbage

garbage.search_rarely()

import mlflow.server.fastapi_app
import mlflow.sklearn
import uvicorn

import vigie.detectors.isolation_forest.detector
import vigie.detectors.one_class_svm.detector
import vigie.tracking.figures

# What is imported is no garbage, and is not looked through, and copied, by each process.
gc.freeze()
