"""Training in a subprocess of the service.

Fitting imports torch, scikit-learn and MLflow, which would burden a serving process, and uses all
cores, so it runs at low priority. When the service stops the subprocess or exits, the training
ends after the upload of the detectors fitted so far.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from vigie import logs
from vigie.child import Child, Parent
from vigie.config import Settings
from vigie.detectors.base import Epoch
from vigie.detectors.trained import TrainedModel
from vigie.errors import TrainingInterruptedError
from vigie.serving.served import Served
from vigie.state import hold
from vigie.tracking import background
from vigie.tracking.recorder import Recorder
from vigie.training.messages import (
    Accepted,
    Done,
    Failed,
    JobRequest,
    Progressed,
    Registered,
    Trained,
)
from vigie.training.prepared import Prepared
from vigie.training.train import Training, require_rows, train_each

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 0.25
"""Between two reports of the progress of a detector, in seconds."""
DIGITS = re.compile(r"\d+")
FEW_ROWS = 100
"""With fewer rows, a check looks whether they are enough."""
UPLOAD_TIMEOUT_S = 10.0
"""How long a stopped subprocess may continue to upload, in seconds."""


class TrainingProcess:
    """One training in a subprocess, from its start to the end of its uploads.

    Parameters
    ----------
    source : Path
        The folder with the request.
    settings : Settings
        Of the service and the training.
    """

    def __init__(self, source: Path, settings: Settings):
        self._source, self._settings = source, settings
        self._why_stopped: str | None = None
        self._is_trained = False
        self._folder = Path(tempfile.mkdtemp(prefix="vigie-training-"))
        self._held = hold(self._folder)
        self._child = Child(run)
        self._uploading = threading.Thread(target=lambda: None)

    def messages(self) -> Iterator[Accepted | Progressed | Trained | Failed]:
        """Yield what the training tells: among it the outcome of each detector, once it is known.

        Raises
        ------
        InvalidDataError
            If the request cannot be used.
        TrainingInterruptedError
            If the subprocess ended before any detector had an outcome.
        """
        self._child.send(JobRequest(self._source, self._settings, self._folder))
        names: list[str] = []
        left: list[str] = []
        for message in self._child:
            match message:
                case Accepted():
                    names, left = list(message.names), list(message.names)
                    yield message
                case Progressed():
                    yield message
                case Trained() | Failed():
                    left.remove(message.name)
                    yield message
                case Done():
                    self._is_trained = True
                    return
        reason = self._reason()
        if left == names:
            raise TrainingInterruptedError(
                reason, remedy="The previous models keep serving; send the rows again."
            )
        for name in left:
            logger.error("%s was not trained. %s", name, reason, extra={"model": name})
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

    def stop(self, why: str = "The service was stopped.") -> None:
        """Stop the training; ``messages`` ends at once."""
        self._why_stopped = self._why_stopped or why
        self._child.stop()

    def wait(self) -> None:
        """Wait for the uploads, up to ``UPLOAD_TIMEOUT_S`` seconds."""
        if self._child.wait(UPLOAD_TIMEOUT_S):
            return
        if self._why_stopped is None or self._is_trained:
            logger.warning("The training process is still uploading; it will end by itself.")
        else:
            logger.warning("The training process does not end, so it is killed.")
            self._child.kill()

    def _reason(self) -> str:
        if self._why_stopped is not None:
            return self._why_stopped
        reason = f"The training process {self._child.describe_exit()}"
        if self._child.was_killed:
            reason += " Train on fewer rows, or add memory."
        logger.error("%s", reason)
        return reason


def run(parent: Parent, request: JobRequest) -> None:
    """Train the detectors of a request, and send their outcomes; runs in the subprocess."""
    logs.name_process(job_id=request.source.name)
    recorder = Recorder(request.settings)
    is_trained = threading.Event()

    def on_stop() -> None:
        # Once everything is trained, the process ends by itself after the uploads.
        if not is_trained.is_set():
            background.flush(UPLOAD_TIMEOUT_S)
            # os._exit: the main thread may be inside a library call that takes hours.
            os._exit(1)

    parent.on_stop(on_stop)
    # Only the child reads rows, so the service does not import how.
    from vigie.training.preparation import prepare

    assert request.folder is not None
    prepared = prepare(request.source, request.settings)
    parent.send(accepted(prepared))
    names, n_rows = prepared.names, len(prepared.table.values)
    require_rows(names, n_rows, request.settings, prepared.given)
    without_version: list[Training] = []
    for result in train_each(
        names,
        prepared.table,
        request.settings,
        recorder,
        source=prepared.source,
        times=prepared.times,
        file_form=prepared.file_form,
        given=prepared.given,
        progress=_Reporter(parent),
    ):
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


def check(
    parent: Parent, request: JobRequest, while_reading: AbstractContextManager[None] | None = None
) -> None:
    """Read and check a request, and tell what it is; runs in a subprocess of its own.

    Parameters
    ----------
    parent : Parent
        Is told.
    request : JobRequest
        The request.
    while_reading : context manager, optional
        Entered while the rows are read.

    Raises
    ------
    InvalidDataError
        If it cannot be used.
    """
    from vigie.training.preparation import prepare

    logs.name_process(job_id=request.source.name)
    with while_reading or nullcontext():
        prepared = prepare(request.source, request.settings)
    if len(prepared.table.values) < FEW_ROWS:
        # Seldom: this imports the libraries of the detectors.
        n_rows = len(prepared.table.values)
        require_rows(prepared.names, n_rows, request.settings, prepared.given)
    parent.send(accepted(prepared))


def accepted(prepared: Prepared) -> Accepted:
    """Return the message that a request can be used."""
    return Accepted(
        tuple(prepared.names), prepared.data, prepared.contamination, prepared.parameters
    )


class _Reporter:
    """Send the progress to the service, a few times a second at most."""

    def __init__(self, parent: Parent):
        self._parent = parent
        self._part, self._next = "", 0.0
        # Fits that run side by side all report.
        self._lock = threading.Lock()

    def __call__(self, step: str, share: float, epoch: Epoch | None = None, /) -> None:
        with self._lock:
            # Another detector, or another part of its training, is told at once.
            part = DIGITS.sub("", step)
            if part == self._part and time.monotonic() < self._next:
                return
            self._part, self._next = part, time.monotonic() + REPORT_EVERY_S
            self._parent.send(Progressed(step, share, epoch))
