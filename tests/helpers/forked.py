"""Processes forked from one that has imported all they need, which else takes each of them seconds.

What runs in them has to stand in a module. They have the environment of the one they come from, not
that of the test: settings go to them as they are.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

import mlflow.sklearn  # noqa: F401
import numpy as np

import vigie.detectors.isolation_forest.detector
import vigie.detectors.one_class_svm.detector
import vigie.tracking.figures  # noqa: F401
from vigie.config import Settings
from vigie.services.one_class_svm_service import OneClassSVMService

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload([__name__])


def train_when_told(settings: Settings, rows: np.ndarray, told: Connection) -> None:
    """Say that it is ready, train when something comes, and end when all has been sent."""
    service = OneClassSVMService(settings=settings)
    told.send("ready")
    told.recv()
    service.train(rows)
    service.mlflow_service.flush()
