"""Training in a subprocess of the service.

Fitting imports torch, scikit-learn and MLflow, which would burden a serving process, and uses all
cores, so it runs at low priority. When the service stops the subprocess or exits, the training
ends after the upload of the detectors fitted so far.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import TypeAdapter

from vigie.child import Child, Parent
from vigie.config import Settings
from vigie.detectors.catalogue import checked_names
from vigie.detectors.data.matrices import Table, training_table
from vigie.detectors.trained import TrainedModel
from vigie.errors import TrainingInterruptedError
from vigie.models.from_json import from_json
from vigie.models.training import TrainRequest
from vigie.serving.served import Served
from vigie.state import hold
from vigie.tracking import background
from vigie.tracking.recorder import Recorder
from vigie.training.messages import Accepted, Done, Failed, JobRequest, Registered, Trained
from vigie.training.train import Training, require_rows, train_each

logger = logging.getLogger(__name__)

UPLOAD_TIMEOUT_S = 10.0
"""How long a stopped subprocess may continue to upload, in seconds."""


class TrainingProcess:
    """One training in a subprocess, from its start to the end of its uploads.

    Parameters
    ----------
    settings : Settings
        Of the service and the training.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._stopped = False
        self._folder = Path(tempfile.mkdtemp(prefix="vigie-training-"))
        self._held = hold(self._folder)
        self._child = Child(run)
        self._uploading = threading.Thread(target=lambda: None)

    def outcomes(self, body: bytes) -> Iterator[Trained | Failed]:
        """Yield the outcome of each detector as soon as it is known.

        Parameters
        ----------
        body : bytes
            A ``TrainRequest`` as JSON.

        Raises
        ------
        InvalidDataError
            If the body cannot be used.
        TrainingInterruptedError
            If the subprocess ended before any detector had an outcome.
        """
        self._child.send(JobRequest(body, self._settings, self._folder))
        names: list[str] = []
        left: list[str] = []
        for message in self._child:
            match message:
                case Accepted():
                    names, left = list(message.names), list(message.names)
                case Trained() | Failed():
                    left.remove(message.name)
                    yield message
                case Done():
                    return
        reason = self._reason()
        if left == names:
            raise TrainingInterruptedError(
                reason, remedy="The previous models keep serving; send the rows again."
            )
        for name in left:
            logger.error("%s was not trained. %s", name, reason)
            yield Failed(name, reason)

    def serving_form(self, trained: Trained) -> Path:
        """Return the folder with the serving form of a model."""
        return self._folder / trained.name

    def open(self, trained: Trained) -> Served:
        """Open the model of a trained detector."""
        model = TrainedModel.load(self.serving_form(trained))
        return Served(
            model, trained.version, run_id=trained.run_id, card_sha256=trained.card_sha256
        )

    def finish(self, on_registered: Callable[[Registered], None]) -> None:
        """Let the uploads continue in the background.

        Parameters
        ----------
        on_registered : callable
            Called from another thread with each version registered after the training.
        """

        def finish() -> None:
            for message in self._child:
                if isinstance(message, Registered):
                    on_registered(message)
            self._child.close()
            self._held.close()
            shutil.rmtree(self._folder, ignore_errors=True)

        self._uploading = threading.Thread(target=finish, name="vigie-uploads", daemon=True)
        self._uploading.start()

    @property
    def is_uploading(self) -> bool:
        """Whether training has ended, but uploads continue."""
        return self._uploading.is_alive()

    def stop(self) -> None:
        """Stop the training; ``outcomes`` ends at once."""
        self._stopped = True
        self._child.stop()

    def wait(self) -> None:
        """Wait for the uploads, up to ``UPLOAD_TIMEOUT_S`` seconds."""
        if not self._child.wait(UPLOAD_TIMEOUT_S):
            logger.warning("The training process is still uploading; it will end by itself.")

    def _reason(self) -> str:
        if self._stopped:
            return "The service was stopped."
        reason = f"The training process {self._child.describe_exit()}"
        if self._child.was_killed:
            reason += " Train on fewer rows, or add memory."
        return reason


def run(parent: Parent, request: JobRequest) -> None:
    """Train the detectors of a request, and send their outcomes; runs in the subprocess."""
    recorder = Recorder(request.settings)
    is_trained = threading.Event()

    def on_stop() -> None:
        # Once everything is trained, the process ends by itself after the uploads.
        if not is_trained.is_set():
            background.flush(UPLOAD_TIMEOUT_S)
            # os._exit: the main thread may be inside a library call that takes hours.
            os._exit(1)

    parent.on_stop(on_stop)
    names, table = checked_request(request.body, request.settings)
    parent.send(Accepted(tuple(names)))
    without_version: list[Training] = []
    for result in train_each(names, table, request.settings, recorder):
        if isinstance(result, Failed):
            parent.send(result)
            continue
        result.served.model.save(request.folder / result.name)
        outcome = result.outcome
        parent.send(outcome)
        if outcome.version is None:
            without_version.append(result)
    is_trained.set()
    parent.send(Done())
    background.flush()
    for training in without_version:
        if (version := training.served.version) is not None:
            parent.send(Registered(training.name, version, training.served.run_id))


def checked_request(body: bytes, settings: Settings) -> tuple[list[str], Table]:
    """Parse and check a body; return the names of the detectors, and the rows.

    Raises
    ------
    InvalidDataError
        If it cannot be used.
    """
    request = from_json(TypeAdapter(TrainRequest), body)
    names = checked_names(request.model_names)
    table = training_table(
        request.rows, request.names, settings.sensor_ranges, request.all_context_features
    )
    require_rows(names, len(table.values), settings)
    return names, table
