"""A training beside the service, in a process of its own.

Fitting takes torch, scikit-learn and MLflow, which a process that serves should not hold, and all
cores, which a reading that waits should not miss. When the service stops the process, or is gone,
a training ends where it is. What has been fitted by then is uploaded first.
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
from vigie.tracking import background
from vigie.tracking.recorder import Recorder
from vigie.training.messages import Accepted, Done, Failed, JobRequest, Registered, Trained
from vigie.training.train import Training, train_each

logger = logging.getLogger(__name__)

ENDS_WITHIN_S = 10.0
"""How long a process that is stopped may go on uploading."""


class TrainingProcess:
    """One training in a process of its own, from its start to the end of its uploads.

    Parameters
    ----------
    settings : Settings
        Of the service, and so of the training.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._stopped = False
        self._folder = Path(tempfile.mkdtemp(prefix="vigie-training-"))
        self._child = Child(run)
        self._uploading = threading.Thread(target=lambda: None)

    def outcomes(self, body: bytes) -> Iterator[Trained | Failed]:
        """Yield what each detector came to, as soon as it is known.

        Parameters
        ----------
        body : bytes
            A ``TrainRequest`` as JSON.

        Raises
        ------
        InvalidDataError
            If the body cannot be used.
        TrainingInterruptedError
            If the process ended before it had come to anything.
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
                reason, remedy="What served before goes on serving; send the rows again."
            )
        for name in left:
            logger.error("%s was not trained. %s", name, reason)
            yield Failed(name, reason)

    def serving_form(self, trained: Trained) -> Path:
        """Return the folder with the serving form of a model."""
        return self._folder / trained.name

    def open(self, trained: Trained) -> Served:
        """Return what answers from now on."""
        model = TrainedModel.load(self.serving_form(trained))
        return Served(
            model, trained.version, run_id=trained.run_id, card_sha256=trained.card_sha256
        )

    def finish(self, on_registered: Callable[[Registered], None]) -> None:
        """Let the uploads go on.

        Parameters
        ----------
        on_registered : callable
            Called with each version that comes late, from another thread.
        """

        def finish() -> None:
            for message in self._child:
                if isinstance(message, Registered):
                    on_registered(message)
            self._child.close()
            shutil.rmtree(self._folder, ignore_errors=True)

        self._uploading = threading.Thread(target=finish, name="vigie-uploads", daemon=True)
        self._uploading.start()

    @property
    def is_uploading(self) -> bool:
        """Whether it is still there, with nothing left to do but to upload."""
        return self._uploading.is_alive()

    def stop(self) -> None:
        """End the fitting; whoever waits for an outcome is told at once."""
        self._stopped = True
        self._child.stop()

    def wait(self) -> None:
        """Wait for the uploads under way, and go on if they take too long."""
        if not self._child.wait(ENDS_WITHIN_S):
            logger.warning("The training process has not ended its uploads; it ends alone.")

    def _reason(self) -> str:
        if self._stopped:
            return "The service has been stopped."
        reason = f"The training process {self._child.how_it_ended()}"
        if self._child.was_killed:
            reason += " Train on fewer rows, or give the machine more memory."
        return reason


def run(parent: Parent, request: JobRequest) -> None:
    """Train what a request names, and send what comes of it."""
    recorder = Recorder(request.settings)
    only_uploads_left = threading.Event()

    def end() -> None:
        # Uploads end by themselves, whatever becomes of the service.
        if not only_uploads_left.is_set():
            background.flush(ENDS_WITHIN_S)
            # The main thread is somewhere inside a library, which may take hours to come back.
            os._exit(1)

    parent.on_gone(end)
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
    only_uploads_left.set()
    parent.send(Done())
    background.flush()
    for training in without_version:
        if (version := training.served.version) is not None:
            parent.send(Registered(training.name, version, training.served.run_id))


def checked_request(body: bytes, settings: Settings) -> tuple[list[str], Table]:
    """Return which detectors a body names, and its rows.

    Raises
    ------
    InvalidDataError
        If it cannot be used.
    """
    request = from_json(TypeAdapter(TrainRequest), body)
    names = checked_names(request.model_names)
    return names, training_table(request.data, request.feature_names, settings.sensor_ranges)
