"""Write a model in its MLflow flavor, so that other tools can open it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vigie.detectors.base import Floats
from vigie.detectors.catalogue import algorithm
from vigie.detectors.trained import TrainedModel
from vigie.registry.server import importing_mlflow
from vigie.registry.version import SERVING
from vigie.tracking import networks

_is_ours: ContextVar[bool] = ContextVar("requirements_are_ours", default=False)


def take_in(flavor: str) -> None:
    """Import the libraries that write a flavor, 'sklearn' or 'torch'."""
    with importing_mlflow():
        if flavor == "torch":
            import mlflow.models
        else:
            import mlflow.sklearn  # noqa: F401


def trace(model: TrainedModel, cache: Path) -> Path:
    """Return the folder of a traced network of this shape; see ``networks.traced``."""
    with importing_mlflow():
        import mlflow.models  # noqa: F401
    with _quietly():
        return networks.traced(model, _requirements("torch", "numpy"), cache)


def write_model(
    model: TrainedModel, sample: Floats, folder: Path, run_id: str, graphs: Path
) -> str:
    """Write both forms of a model and return the content hash of its serving form.

    Parameters
    ----------
    model : TrainedModel
        Just fitted, so that it still has its estimator.
    sample : ndarray of shape (n_samples, n_features)
        Some training rows, for the signature and the input example.
    folder : Path
        Must not exist yet; its name becomes the artifact path.
    run_id : str
        The run that the model belongs to.
    graphs : Path
        The cache of traced networks.
    """
    flavor = algorithm(model.algorithm).flavor
    take_in(flavor)
    if flavor == "sklearn":
        with _quietly():
            _write_sklearn(model, sample, folder, run_id)
    else:
        _write_torch(model, sample, folder, run_id, graphs)
    return model.save(folder / SERVING)


def write_estimator(estimator: Any, folder: Path, run_id: str, **about: Any) -> None:
    """Write any scikit-learn compatible estimator or torch module in its flavor.

    Parameters
    ----------
    estimator : object
        A ``torch.nn.Module``, or anything with ``predict`` that can be pickled.
    folder : Path
        Must not exist yet.
    run_id : str
        The run that the model belongs to.
    **about
        ``signature`` and ``input_example``, as MLflow's ``save_model`` takes them.
    """
    from mlflow.models import Model

    described = Model(artifact_path=folder.name, run_id=run_id)
    with _quietly():
        if any(base.__module__.startswith("torch.") for base in type(estimator).__mro__):
            import mlflow.pytorch
            import torch

            mlflow.pytorch.save_model(
                estimator,
                folder,
                mlflow_model=described,
                serialization_format="pickle",
                pip_requirements=_requirements("torch", "numpy"),
                **about,
            )
            torch.save(estimator.state_dict(), folder / "model.pth")
        else:
            import mlflow.sklearn

            mlflow.sklearn.save_model(
                estimator,
                folder,
                mlflow_model=described,
                serialization_format="cloudpickle",
                pip_requirements=_requirements("scikit-learn", "pyod", "numpy", "cloudpickle"),
                **about,
            )


def _write_sklearn(model: TrainedModel, sample: Floats, folder: Path, run_id: str) -> None:
    import cloudpickle
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import Model, infer_signature

    from vigie.detectors.data.contextual import ContextualEstimator

    estimator, ours = model.estimator, {type(model.estimator).__module__}
    example = pd.DataFrame(sample[:5], columns=list(model.feature_names))
    if model.context is not None:
        estimator = ContextualEstimator(model.context, estimator)
        ours |= {ContextualEstimator.__module__, type(model.context).__module__}
        for column in model.context.words:
            example.isetitem(column, model.context.words_of(column, sample[:5, column]))
    for name in ours:
        if name.startswith("vigie."):
            # Whoever loads the model need not have Vigie.
            cloudpickle.register_pickle_by_value(sys.modules[name])
    # PyOD always predicts integers; a real prediction by a forest would take longer than the write.
    verdicts = np.zeros(len(example), dtype=np.int64)
    mlflow.sklearn.save_model(
        estimator,
        folder,
        mlflow_model=Model(artifact_path=folder.name, run_id=run_id),
        serialization_format="cloudpickle",
        signature=infer_signature(example, verdicts),
        input_example=example,
        pip_requirements=_requirements("scikit-learn", "pyod", "numpy", "cloudpickle"),
    )


def _write_torch(
    model: TrainedModel, sample: Floats, folder: Path, run_id: str, graphs: Path
) -> None:
    import torch

    # The exported graph needs neither our classes nor a pickle; the plain weights beside it are
    # the file that the guide names.
    example = np.ascontiguousarray(model.examples(sample)[-2:])
    networks.fill(trace(model, graphs), model, example, folder, run_id)
    torch.save(model.estimator.state_dict(), folder / "model.pth")


def _requirements(*names: str) -> list[str]:
    """Pin the libraries that a flavor needs; without this MLflow runs the model to infer them."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence MLflow's warnings about formats: both forms are saved on purpose."""
    _skip_requirement_checks()
    loggers = [logging.getLogger(name) for name in ("mlflow.sklearn", "mlflow.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    token = _is_ours.set(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _is_ours.reset(token)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _skip_requirement_checks() -> None:
    """Patch MLflow so that it does not check our requirements, which pin what is installed.

    The check reads the file lists of all packages; the first time that takes 0.25 s.
    """
    with importing_mlflow():
        from mlflow.utils import environment

        check = environment.warn_dependency_requirement_mismatches
        if getattr(check, "skips_ours", False):
            return

        def unless_ours(model_requirements: list[str]) -> None:
            if not _is_ours.get():
                check(model_requirements)

        unless_ours.skips_ours = True  # type: ignore[attr-defined]
        environment.warn_dependency_requirement_mismatches = unless_ours
