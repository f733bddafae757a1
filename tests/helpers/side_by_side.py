"""What several trainers and movers of versions do at once, as threads or as processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
from forked import forking

from vigie.config import Settings
from vigie.errors import ConflictError, ModelNotFoundError
from vigie.services.isolation_forest_service import IsolationForestService
from vigie.services.mlflow_service import MLflowService
from vigie.tracking import publish

AT_MOST_S = 300
"""For those who wait for each other: not a stopwatch, but a way out."""

KINDS = ("threads", "processes")


class Workers:
    """Threads, or processes, that can wait for each other."""

    def __init__(self, pool: Executor, barriers: Any):
        self.pool, self.barrier = pool, barriers.Barrier


@contextmanager
def workers(kind: str, n: int) -> Iterator[Workers]:
    """Have n threads, or n processes, as long as a block lasts."""
    if kind == "threads":
        with ThreadPoolExecutor(n) as threads:
            yield Workers(threads, threading)
        return
    with forking().Manager() as manager, ProcessPoolExecutor(n, forking()) as processes:
        yield Workers(processes, manager)


@dataclass(frozen=True)
class Made:
    """What one training was, and what it was told to have become."""

    name: str
    version: int | None
    run_id: str | None
    n_samples: int
    contamination: float
    fingerprint: str
    fluent_run_id: str


def train(worker: int, settings: Settings, n_trainings: int, together: Any) -> list[Made]:
    """Train in turns under a name that all share and one of one's own, amid MLflow's own run.

    Every second pair of trainings goes into a run that this worker has opened.
    """
    own = type("Own", (IsolationForestService,), {"name": f"forest_{worker}"})
    tracking, rng = MLflowService(settings), np.random.default_rng(worker)
    mlflow.set_tracking_uri(settings.mlflow_tracking_uri)
    made = []
    together.wait(AT_MOST_S)
    with mlflow.start_run(run_name="fluent") as fluent:
        for number in range(n_trainings):
            # No two trainings have as many rows, or the same contamination.
            which = worker * n_trainings + number
            kind = (IsolationForestService, own)[number % 2]
            service = kind(settings=settings, contamination=0.01 + which / 1e4)
            is_open = number // 2 % 2 == 1
            if is_open:
                tracking.start_run(f"run {which}")
            service.train(rng.normal(size=(60 + which, 3)))
            tracking.log_metrics({"which": which})
            if is_open:
                tracking.end_run()
            model = service.served.model
            made.append(
                Made(
                    service.name,
                    service.served.version,
                    service.served.run_id,
                    60 + which,
                    service.contamination,
                    model.data_fingerprint,
                    fluent.info.run_id,
                )
            )
            active = mlflow.active_run()
            assert active is not None
            assert active.info.run_id == fluent.info.run_id
    assert tracking.flush(AT_MOST_S)
    return made


@dataclass(frozen=True)
class Moved:
    """What became of one move; ``version`` is None where it was refused, for ``reason``."""

    version: int | None
    reason: str
    ended: float


Move = tuple[str, str, int]
"""Name, stage or 'rollback', and version."""


def move(plan: list[Move], settings: Settings, together: Any) -> list[Moved]:
    """Make moves, each when all others are about to make theirs, and wait after each for all."""
    tracking, outcome = MLflowService(settings), []
    for name, stage, version in plan:
        together.wait(AT_MOST_S)
        try:
            if stage == "rollback":
                moved: int | None = tracking.rollback(name)[1].version
            else:
                moved = tracking.transition_model_stage(name, version, stage).version
            reason = ""
        except (ConflictError, ModelNotFoundError) as error:
            moved, reason = None, str(error)
        except BaseException:
            # Nobody shall wait for this one any more.
            together.abort()
            raise
        outcome.append(Moved(moved, reason, time.monotonic()))
        together.wait(AT_MOST_S)
    return outcome


def register_at_once(
    settings: Settings, name: str, source: str, run_id: str, n: int, together: Any
) -> list[int]:
    """Register versions of one model, each in the same moment as all others do."""
    server, made = MLflowService(settings).server, []
    try:
        for _ in range(n):
            together.wait(AT_MOST_S)
            made.append(publish._register(server, name, source, run_id, {}, ""))
    except BaseException:
        # Nobody shall wait for this one any more.
        together.abort()
        raise
    return made
