"""A training beside the service, in an interpreter of its own.

Fitting takes torch, scikit-learn and MLflow, which a process that serves should not hold, and both
cores, which a reading that waits should not miss. So the service has another interpreter do it, at
a low priority. A body goes in through a pipe as it came: whoever reads many rows holds the
interpreter for as long as hundreds of readings take. One line of JSON comes back for each detector,
with the model's serving form in a folder: data, so that no estimator is unpickled.

The pipe is also a leash: when the service closes it, or is gone, a training ends where it is. What
has been fitted by then is uploaded first.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from pydantic import TypeAdapter

from vigie.config import Settings
from vigie.detectors.base import Progress, untold
from vigie.detectors.data.matrices import Table, training_table
from vigie.detectors.trained import TrainedModel
from vigie.errors import InvalidDataError, TrainingInterruptedError, VigieError
from vigie.models.from_json import from_json
from vigie.models.training import TrainRequest
from vigie.services.detector_service import DetectorService, checked_names, new_service
from vigie.serving.served import Served

logger = logging.getLogger(__name__)

ENDS_WITHIN_S = 10.0
"""How long a process that is told to end may go on uploading."""

Outcome = dict[str, Any]
"""``status``, and ``metrics`` and ``version`` or ``error``, as ``train_all_models`` returns it."""


def train_each(
    services: Mapping[str, DetectorService],
    table: Table,
    progress: Progress = untold,
    stage: str | None = None,
) -> Iterator[tuple[str, Outcome]]:
    """Train detectors one after the other, and yield how each went; none stops the others.

    Parameters
    ----------
    services : mapping of str to DetectorService
        Which detectors, by name.
    table : Table
        Healthy rows, checked.
    progress : callable, optional
        Told what is being done and the share of it that is finished.
    stage : {'Staging', 'Production'}, optional
        The stage that each version is moved to.
    """
    for number, (name, service) in enumerate(services.items()):
        part = _part(progress, name, number, len(services))
        try:
            metrics = service.train(table, nested=len(services) > 1, stage=stage, progress=part)
        except VigieError as error:
            logger.error("%s was not trained. %s", name, error)
            yield name, {"status": "failed", "error": str(error)}
        except Exception:
            # The libraries raise what they like; one detector must not take the others along.
            incident = uuid.uuid4().hex
            logger.exception("%s was not trained. Incident %s", name, incident)
            said = f"This is a fault of the service, not of the data. Its log has it as {incident}."
            yield name, {"status": "failed", "error": said}
        else:
            version = service.served.version if service.served else None
            yield name, {"status": "trained", "version": version, "metrics": metrics}


@dataclass(frozen=True)
class Result:
    """How the training of one detector went; ``served`` where it has left a model."""

    name: str
    outcome: Outcome
    served: Served | None = None
    card_sha256: str = ""
    serving_form: Path = Path()


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
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vigie.services.training_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C in a terminal reaches a whole group at once; this one ends by its leash. The
            # session stays the same: Linux compares priorities only within one.
            process_group=0,
        )
        _step_back(self._process.pid)
        self._messages = SimpleQueue[dict[str, Any] | None]()
        self._ended = threading.Thread(target=lambda: None)
        threading.Thread(target=self._listen, name="vigie-training", daemon=True).start()

    def results(self, body: bytes) -> Iterator[Result]:
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
        try:
            # Our own child is given them: this is no pickle of a model.
            pickle.dump((self._settings, body, self._folder), self._stdin)
            self._stdin.flush()
        except (OSError, ValueError):
            logger.error("The training process took no data.")
        understood = self._next() or {"names": []}
        if "refused" in understood:
            raise InvalidDataError(**understood["refused"])
        left = list(understood["names"])
        while (message := self._next()) is not None:
            if message.get("done"):
                return
            left.remove(message["name"])
            yield self._result(message)
        reason = self._reason()
        if left == understood["names"]:
            raise TrainingInterruptedError(
                reason, remedy="What served before goes on serving; send the rows again."
            )
        for name in left:
            logger.error("%s was not trained. %s", name, reason)
            yield Result(name, {"status": "failed", "error": reason})

    def finish(self, registered: Callable[[str, int, str], None]) -> None:
        """Let the uploads go on, and tell the versions that come late.

        Parameters
        ----------
        registered : callable
            Told name, version and run, from another thread.
        """

        def finish() -> None:
            while (message := self._next()) is not None:
                if "version" in message:
                    registered(message["name"], message["version"], message["run_id"])
            self._process.wait()
            with suppress(OSError):
                self._stdin.close()
            shutil.rmtree(self._folder, ignore_errors=True)

        self._ended = threading.Thread(target=finish, name="vigie-uploads", daemon=True)
        self._ended.start()

    @property
    def uploads(self) -> bool:
        """Whether it is still there, with nothing left to do but to upload."""
        return self._ended.is_alive()

    def stop(self) -> None:
        """End the fitting; whoever waits for its results is told at once."""
        self._stopped = True
        self._messages.put(None)
        with suppress(OSError):
            self._stdin.close()

    def wait(self) -> None:
        """Wait for the uploads under way, and go on if they take too long."""
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            logger.warning("The training process has not ended its uploads; it ends alone.")

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._messages.put(json.loads(line))
        self._messages.put(None)

    def _next(self) -> dict[str, Any] | None:
        """Return what the process says next; None when it says no more, or nobody shall wait."""
        message = self._messages.get()
        if message is None:
            # An end stays one for whoever asks again.
            self._messages.put(None)
        return message

    def _result(self, message: dict[str, Any]) -> Result:
        name, outcome = message["name"], message["outcome"]
        if outcome["status"] != "trained":
            return Result(name, outcome)
        form = self._folder / name
        model = TrainedModel.load(form)
        served = Served(
            model,
            outcome["version"],
            run_id=message["run_id"],
            card_sha256=message["card_sha256"] if message["is_recorded"] else None,
        )
        return Result(name, outcome, served, message["card_sha256"], form)

    def _reason(self) -> str:
        if self._stopped:
            return "The service has been stopped."
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return (
                "The training process was killed (SIGKILL), as happens when memory runs out. "
                "Train on fewer rows, or give the machine more memory."
            )
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        return f"The training process ended {how}; the service's log says more."


def main() -> None:
    """Train what stands in the pipe, and answer on what was the standard output."""
    answers = _own_output()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("vigie").setLevel(logging.INFO)
    from vigie.services.mlflow_service import MLflowService

    try:
        settings, body, folder = pickle.load(sys.stdin.buffer)
    except EOFError:
        return
    tracking = MLflowService(settings)
    leash = _Leash(tracking)
    try:
        names, table = _asked(body, settings)
    except InvalidDataError as error:
        _tell(answers, {"refused": vars(error)})
        return
    _tell(answers, {"names": names})
    services = {name: new_service(name, settings, tracking) for name in names}
    told = {}
    for name, outcome in train_each(services, table):
        message: dict[str, Any] = {"name": name, "outcome": outcome}
        if served := services[name].served:
            told[name] = served.version
            message |= {
                "run_id": served.run_id,
                "is_recorded": served.card_sha256 is not None,
                "card_sha256": served.model.save(folder / name),
            }
            outcome["version"] = served.version
        _tell(answers, message)
    leash.loosen()
    _tell(answers, {"done": True})
    tracking.flush()
    for name, version in told.items():
        served = services[name].served
        if served is not None and served.version != version:
            _tell(answers, {"name": name, "version": served.version, "run_id": served.run_id})


def _asked(body: bytes, settings: Settings) -> tuple[list[str], Table]:
    """Return which detectors a body asks for, and its rows, checked."""
    asked = from_json(TypeAdapter(TrainRequest), body)
    names = checked_names(asked.model_names)
    return names, training_table(asked.data, asked.feature_names, settings.sensor_ranges)


class _Leash:
    """Ends this process once the service has closed its end of the pipe."""

    def __init__(self, tracking: Any):
        self._tracking, self._loose = tracking, False
        threading.Thread(target=self._watch, daemon=True).start()

    def loosen(self) -> None:
        """Only uploads are left, which end by themselves whatever becomes of the service."""
        self._loose = True

    def _watch(self) -> None:
        while os.read(0, 1):
            pass
        if not self._loose:
            self._tracking.flush(ENDS_WITHIN_S)
            # The main thread is somewhere inside a library, which may take hours to come back.
            os._exit(1)


def _own_output() -> IO[str]:
    """Keep the standard output for answers; what libraries print goes to the log."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _step_back(process: int) -> None:
    """Let whatever answers somebody go before a process, from its first import on."""
    with suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process, 10)
        if hasattr(os, "SCHED_BATCH"):
            os.sched_setscheduler(process, os.SCHED_BATCH, os.sched_param(0))


def _tell(answers: IO[str], message: Mapping[str, Any]) -> None:
    try:
        answers.write(f"{json.dumps(message, default=float)}\n")
        answers.flush()
    except BrokenPipeError:
        logger.warning("The service that asked for this training is gone.")


def _part(progress: Progress, name: str, number: int, total: int) -> Progress:
    return lambda step, share: progress(f"{name}: {step}", (number + share) / total)


if __name__ == "__main__":
    main()
