"""One tracking server as this process sees it: every call is bounded, every outage logged once.

MLflow's client retries a refused connection for four minutes and waits on a silent one for
twenty. Its limits are environment variables of the whole process; here they are given to our
calls alone, and the user's environment is left as it is. Nothing is retried: a repeated POST may
create a second run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from vigie.breaker import CircuitBreaker
from vigie.config import masked
from vigie.detectors.trained import MOST_BYTES
from vigie.errors import (
    ModelNotFoundError,
    TrackingError,
    TrackingRefusedError,
    TrackingUnavailableError,
    VigieError,
)
from vigie.registry import http

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = (0.5, 1.0)
PATIENT_PROBE_TIMEOUT_S = (5.0, 20.0)
"""For whoever has nothing else to do; a server may be as slow as the sum of it takes."""
CALL_TIMEOUT_S = 20
BY_HAND_TIMEOUT_S = 2
"""For whoever stands and waits for it."""
QUIET_AFTER_FAILURE_S, QUIET_AFTER_SILENCE_S = 5.0, 60.0
"""How long a failed server is not asked again; a training never pays for an outage twice."""
TRUST_AFTER_ANSWER_S = 2.0
"""How long a server that has answered is taken to be there without another probe."""

AT_FAULT = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
"""What MLflow says of a request that it will not take another time either."""

NOT_LET_IN = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
"""What MLflow's client makes of a 401."""

NO_JSON = "failed with error code"
NO_MLFLOW = ("response body was not in a valid JSON format", f"{NO_JSON} 404")
"""What MLflow's client says of a status without JSON, and where that tells that it is not MLflow
that has answered, but a proxy or somebody else."""

P = ParamSpec("P")
T = TypeVar("T")

_importing = threading.RLock()
_limits: ContextVar[dict[str, int] | None] = ContextVar("tracking_limits", default=None)
_timeout: ContextVar[int] = ContextVar("call_timeout", default=CALL_TIMEOUT_S)
_probe: ContextVar[tuple[float, float]] = ContextVar("probe_timeout", default=PROBE_TIMEOUT_S)

_OURS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": 0,
    "MLFLOW_HTTP_REQUEST_TIMEOUT": CALL_TIMEOUT_S,
    # Standard output belongs to whoever calls us, such as `vigie detect --format json`.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": True,
}


class Server:
    """A tracking server, or a database that MLflow opens directly, by its URI."""

    def __init__(self, uri: str):
        self.uri = uri
        self.is_remote = urlsplit(uri).scheme in ("http", "https")
        self._breaker = CircuitBreaker[TrackingUnavailableError]()
        self._answered_at = float("-inf")
        self._lock = threading.Lock()
        self._refusal_logged = ""

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client; importing it takes more than a second, so not before it is needed."""
        with importing_mlflow():
            import mlflow
            from mlflow.exceptions import MlflowException

            _install_limits()
        try:
            return mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        except MlflowException as error:
            raise TrackingError(
                f"MLflow cannot work with {self.masked_uri}: {_first_line(error)}",
                field="MLFLOW_TRACKING_URI",
                remedy="For example http://localhost:5000 or sqlite:///mlflow.db.",
            ) from error

    @property
    def speaks_rest(self) -> bool:
        """Whether ``ask`` and ``download`` do without MLflow's client."""
        return self.is_remote and http.suffices()

    @property
    def masked_uri(self) -> str:
        """The URI without its password, for logs and answers."""
        return masked(self.uri)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the client within bounds.

        Raises
        ------
        TrackingUnavailableError
            If the server cannot be reached or does not answer in time.
        ModelNotFoundError
            If it has no such model, version or stage.
        TrackingError
            If it refuses or fails the request.
        """
        with importing_mlflow():
            from mlflow.exceptions import MlflowException

        self.require()
        try:
            with _bounded():
                answer = function(*args, **kwargs)
        except MlflowException as error:
            if _is_outage(error):
                hangs = "timed out" in str(error) or "timeout" in str(error)
                raise self._down(_first_line(error), hangs=hangs) from error
            if error.error_code in NOT_LET_IN:
                raise self._shut() from error
            if any(sign in str(error) for sign in NO_MLFLOW):
                raise self._foreign() from error
            # Only MLflow itself, which answers JSON, knows that a request is at fault.
            code = "" if NO_JSON in str(error) else error.error_code
            raise _refusal(_first_line(error), code) from error
        except Exception as error:
            # Artifact stores raise whatever their own client raises; a training must not care.
            raise TrackingError(
                f"The artifact store failed: {masked(repr(error))}",
                remedy="`vigie doctor` checks the server step by step.",
            ) from error
        if _is_nameless(answer):
            raise self._foreign()
        self._has_answered()
        return answer

    def ask(self, endpoint: str, **params: str) -> dict[str, Any]:
        """Ask the server's REST API, without the cost of MLflow's client.

        Parameters
        ----------
        endpoint : str
            Below ``/api/2.0/mlflow``, such as ``runs/get``.
        **params
            The query.

        Raises
        ------
        TrackingUnavailableError, ModelNotFoundError, TrackingError
            As ``call``.
        """
        status, answer = self._asked(lambda: http.get(self.uri, endpoint, params))
        if status >= 400:
            message = str(answer.get("message") or f"it answers {status}").splitlines()[0]
            raise _refusal(message[:300], answer.get("error_code", ""))
        return answer

    def download(self, path: str, target: Path) -> None:
        """Write an artifact that the server hands out itself into a file.

        Parameters
        ----------
        path : str
            What follows ``mlflow-artifacts:/`` in its URI.
        target : Path
            The file.

        Raises
        ------
        TrackingUnavailableError, TrackingError
            As ``call``.
        """
        status = self._asked(lambda: (http.download(self.uri, path, target, MOST_BYTES), None))[0]
        if status != 200:
            raise _refusal(f"{path}: it answers {status}")

    def _asked(self, request: Callable[[], tuple[int, T]]) -> tuple[int, T]:
        """Return what a request is answered, unless the server cannot answer at all."""
        import requests

        self.require()
        try:
            status, answer = request()
        except requests.RequestException as error:
            raise self._down(_reason(error)) from error
        if status >= 500:
            raise self._down(f"it answers {status}")
        if status == 401:
            raise self._shut()
        self._has_answered()
        return status, answer

    def require(self) -> None:
        """Return if the server answers; raise at once if it did not a moment ago.

        Raises
        ------
        TrackingUnavailableError
            If it does not.
        """
        if not self.is_remote or time.monotonic() < self._answered_at + TRUST_AFTER_ANSWER_S:
            return
        if self._breaker.is_open:
            raise self._unavailable("it did not answer a moment ago")
        import requests

        try:
            # Headers are answer enough: a body that trickles in has no bound of its own.
            url = f"{self.uri.rstrip('/')}/health"
            with requests.get(url, timeout=_probe.get(), stream=True) as answer:
                status = answer.status_code
        except requests.RequestException as error:
            raise self._down(_reason(error)) from error
        if status == 404:
            raise self._foreign()
        if status >= 500:
            raise self._down(f"it answers {status}")
        self._answered_at = time.monotonic()

    def log_refusal(self, error: TrackingError, what: str) -> None:
        """Log that something could not be recorded, once for each reason in a row."""
        with self._lock:
            first, self._refusal_logged = self._refusal_logged != str(error), str(error)
        logger.log(logging.ERROR if first else logging.DEBUG, "%s %s", what, error)

    def log_outage(self, error: TrackingUnavailableError) -> None:
        """Log an outage as one error, however many calls it fails."""
        logger.log(logging.ERROR if self._breaker.count() else logging.DEBUG, "%s", error)

    def _has_answered(self) -> None:
        self._answered_at = time.monotonic()
        self._breaker.recovered()

    def _down(self, reason: str, *, hangs: bool = False) -> TrackingUnavailableError:
        """Ask the server nothing for a while, and return the error that says why."""
        outage = self._unavailable(reason)
        outage.timed_out = hangs
        # One that says that it is there, and then does nothing, would be believed again at once.
        self._breaker.open(outage, QUIET_AFTER_SILENCE_S if hangs else QUIET_AFTER_FAILURE_S)
        self._answered_at = float("-inf")
        return outage

    def _unavailable(self, reason: str) -> TrackingUnavailableError:
        return TrackingUnavailableError(
            f"The MLflow server at {self.masked_uri} cannot be reached ({reason}).",
            remedy="Start it (`vigie up`), correct MLFLOW_TRACKING_URI, or set "
            "MLFLOW_ENABLED=false to do without.",
        )

    def _foreign(self) -> TrackingUnavailableError:
        return self._down("what answers there is not MLflow")

    def _shut(self) -> TrackingUnavailableError:
        # As good as away, but asked again at once: a probe finds nothing wrong with it.
        return TrackingUnavailableError(
            f"The MLflow server at {self.masked_uri} does not let Vigie in (401).",
            remedy="Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment "
            "(MLflow does not read .env), or MLFLOW_ENABLED=false to do without.",
        )


@lru_cache
def server_at(uri: str) -> Server:
    """Return the one ``Server`` of this process for a URI."""
    return Server(uri)


def impatiently() -> AbstractContextManager[None]:
    """Wait for no answer longer than a program bears that records by hand."""
    return _meanwhile(_timeout, BY_HAND_TIMEOUT_S)


def patiently() -> AbstractContextManager[None]:
    """Take a server that is slow to say that it is there for one that is there."""
    return _meanwhile(_probe, PATIENT_PROBE_TIMEOUT_S)


@contextmanager
def importing_mlflow() -> Iterator[None]:
    """Let one thread at a time import MLflow: its packages import each other in circles."""
    with _importing:
        yield


def _bounded() -> AbstractContextManager[None]:
    return _meanwhile(_limits, {**_OURS, "MLFLOW_HTTP_REQUEST_TIMEOUT": _timeout.get()})


@contextmanager
def _meanwhile(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Give a variable of this thread or task a value as long as a block lasts."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


class _Limit:
    """Stands where MLflow looks a limit up: ours inside ``_bounded``, the user's elsewhere."""

    def __init__(self, variable: Any):
        self._variable = variable

    def get(self) -> Any:
        limits = _limits.get()
        return self._variable.get() if limits is None else limits[self._variable.name]

    def __str__(self) -> str:
        return str(self._variable)


def _install_limits() -> None:
    from mlflow.tracking._tracking_service import client
    from mlflow.utils import rest_utils

    for module in (rest_utils, client):
        for name in _OURS:
            variable = getattr(module, name, None)
            if variable is not None and not isinstance(variable, _Limit):
                setattr(module, name, _Limit(variable))


def _refusal(reason: str, error_code: str = "") -> VigieError:
    """Return the error for an answer that says no."""
    if error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
        return ModelNotFoundError(reason, remedy="`vigie models list` shows what there is.")
    kind = TrackingRefusedError if error_code in AT_FAULT else TrackingError
    return kind(
        f"MLflow refused: {reason}", remedy="`vigie doctor` checks the server step by step."
    )


def _is_outage(error: Exception) -> bool:
    """Whether no answer came at all, as against an answer that says no."""
    text = str(error)
    return "failed with exception" in text or "failed with timeout exception" in text


def _is_nameless(answer: Any) -> bool:
    """Whether this is what MLflow's client makes of an answer that is none, such as ``{}``."""
    from mlflow.entities import Experiment, Run
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

    match answer:
        case Run():
            return not (answer.info.run_id and answer.info.artifact_uri)
        case Experiment():
            return not answer.experiment_id
        case ModelVersion():
            return not (answer.name and answer.version)
        case RegisteredModel():
            return not answer.name
    return isinstance(answer, str) and not answer


def _reason(error: Exception) -> str:
    text = str(error).lower()
    if "resolve" in text or "name or service" in text:
        return "no such host"
    return "no answer in time" if "timed out" in text else "connection refused"


def _first_line(error: Exception) -> str:
    # MLflow's client names the address that it could not reach, password and all.
    return masked(str(error).splitlines()[0][:300])
