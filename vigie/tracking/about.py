"""What MLflow shows of a training: descriptions of its model and version, and its dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vigie.detectors.trained import TrainedModel
from vigie.registry.scopes import MARK

MOST_NAMED, LONGEST_NAME = 30, 80
"""Sensors in a description, and characters of each name; MLflow takes 5000 characters."""
LONGEST_SCHEMA = 65_535
"""Characters that all versions of MLflow take."""
LONGEST_DATASET_NAME, DIGEST = 500, 32
TRAINED_ON = "training"
"""MLflow's context of a dataset that a model was trained on."""


def of_model(name: str) -> str:
    """Return the description of a registered model."""
    algorithm, _, asset = name.partition(MARK)
    trained = "trained by Vigie on readings of healthy operation. The description of each version"
    if asset:
        return (
            f"Anomaly detector of the kind {_code(algorithm)} for {_code(asset)} alone, {trained} "
            "says on which."
        )
    return (
        f"Anomaly detector of the kind {_code(algorithm)}, {trained} says on which. The newest "
        "version in Production serves; without one, the newest of all."
    )


def of_version(model: TrainedModel, source: Mapping[str, Any] | None, ended_ms: int) -> str:
    """Return the description of a version.

    Parameters
    ----------
    model : TrainedModel
        Just trained.
    source : mapping or None
        What was understood of the file with the rows.
    ended_ms : int
        When the training ended, as Unix time in milliseconds.
    """
    names = [_code(name) for name in model.feature_names if name not in model.context_names]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    text = (
        f"{_code(model.algorithm)}, trained on {model.n_samples:,} healthy "
        f"rows of {len(names)} sensor{'' if len(names) == 1 else 's'}: "
        f"{', '.join(names[:MOST_NAMED])}{more}."
    )
    if model.context_names:
        given = ", ".join(map(_code, sorted(model.context_names)[:MOST_NAMED]))
        text += f" The sensors are judged given {given}."
    if source is not None:
        text += f" The rows are from {_code(source['name'])}"
        if time := source.get("time"):
            text += f", {time['begin']} to {time['end']}"
        text += "."
    trained = datetime.fromtimestamp(ended_ms / 1000, UTC)
    return f"{text} Trained on {trained:%Y-%m-%d %H:%M} UTC."


def dataset(
    model: TrainedModel, source: Mapping[str, Any] | None, origin: Mapping[str, str]
) -> dict[str, str]:
    """Return the arguments of MLflow's ``Dataset`` for the training rows, without the rows.

    Parameters
    ----------
    model : TrainedModel
        Just trained.
    source : mapping or None
        What was understood of the file with the rows.
    origin : mapping of str to str
        MLflow's context tags, which stand for the source of rows that are from no file.
    """
    n_rows, n_columns = model.n_samples, model.n_features
    columns = [
        {"type": "string" if name in model.words else "double", "name": name, "required": True}
        for name in model.feature_names
    ]
    facts = {
        "name": (source["name"] if source else "training_rows")[:LONGEST_DATASET_NAME],
        "digest": model.data_fingerprint[:DIGEST],
        "source_type": "local" if source else "code",
        "source": json.dumps({"uri": source["name"]} if source else {"tags": dict(origin)}),
        "profile": json.dumps({"num_rows": n_rows, "num_elements": n_rows * n_columns}),
    }
    schema = json.dumps({"mlflow_colspec": columns})
    return facts | ({"schema": schema} if len(schema) <= LONGEST_SCHEMA else {})


def _code(name: str) -> str:
    """Return a name from outside as code in Markdown, which shows it as it is."""
    text = " ".join(str(name).replace("`", "'").split())
    return f"`{text[:LONGEST_NAME]}`"
