"""Processes forked from one that has imported all they need, which else takes each of them seconds.

What runs in them has to stand in a module. They know nothing of the environment of a test: settings
go to them as they are.
"""

from __future__ import annotations

import multiprocessing
import os
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path

import numpy as np
import pytest

from vigie.config import Settings
from vigie.services.one_class_svm_service import OneClassSVMService


@cache
def forking() -> ForkServerContext:
    """Return the context that forks, once it has imported what ``preloaded`` does."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    # Python 3.11 does not tell the process that forks where modules are, and says nothing when it
    # finds none.
    path = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "VIGIE_"))]:
            patch.delenv(name)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        ensure_running()
    return context


def train_when_told(settings: Settings, rows: np.ndarray, told: Connection) -> None:
    """Say that it is ready, train when something comes, and end when all has been sent."""
    service = OneClassSVMService(settings=settings)
    told.send("ready")
    told.recv()
    service.train(rows[:, :2])
    service.mlflow_service.flush()
