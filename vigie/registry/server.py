"""Access to a tracking server: every call has a timeout, and every outage is logged once.

MLflow's client retries a refused connection for four minutes and waits for a silent one for
twenty. Its limits are environment variables of the whole process; here other limits apply to our
calls alone, and the user's environment does not change. Nothing is retried: a repeated POST may
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
from vigie.config import confide, masked, masked_address
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
"""To connect and to read, for ``vigie sync`` and background syncs, which can wait."""
CALL_TIMEOUT_S = 20
BY_HAND_TIMEOUT_S = 2
"""For manual records, for which the program waits."""
QUIET_AFTER_FAILURE_S, QUIET_AFTER_SILENCE_S = 5.0, 60.0
"""How long calls fail fast after a failure or a timeout; a training waits for an outage once."""
TRUST_AFTER_ANSWER_S = 2.0
"""How long after an answer a server needs no other probe."""

AT_FAULT = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
"""MLflow's error codes for requests that a retry cannot help."""

UNAUTHORIZED = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
"""The error codes to which MLflow's client maps a 401."""

NO_JSON = "failed with error code"
NO_MLFLOW = ("response body was not in a valid JSON format", f"{NO_JSON} 404")
"""Messages of MLflow's client about a response without JSON; those in ``NO_MLFLOW`` show that it
came from a proxy or another server."""

P = ParamSpec("P")
T = TypeVar("T")

_importing = threading.RLock()
_limits: ContextVar[dict[str, int] | None] = ContextVar("tracking_limits", default=None)
_timeout: ContextVar[int] = ContextVar("call_timeout", default=CALL_TIMEOUT_S)
_probe: ContextVar[tuple[float, float]] = ContextVar("probe_timeout", default=PROBE_TIMEOUT_S)

_OURS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": 0,
    "MLFLOW_HTTP_REQUEST_TIMEOUT": CALL_TIMEOUT_S,
    # Standard output belongs to the caller, such as `vigie detect --format json`.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": True,
}


class Server:
    """A tracking server, or a database that MLflow opens directly, by its URI."""

    def __init__(self, uri: str):
        self.uri = uri
        confide(uri)
        self.is_remote = urlsplit(uri).scheme in ("http", "https")
        self._breaker = CircuitBreaker[TrackingUnavailableError]()
        self._answered_at = float("-inf")
        self._lock = threading.Lock()
        self._refusal_logged = ""

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client, created on first use, since its import takes more than a second."""
        with importing_mlflow():
            import mlflow
            from mlflow.exceptions import MlflowException

            _install_limits()
        try:
            return mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        except MlflowException as error:
            raise TrackingError(
                f"MLflow does not support {self.masked_uri}: {_first_line(error)}",
                field="MLFLOW_TRACKING_URI",
                remedy="Use for example http://localhost:5000 or sqlite:///mlflow.db.",
            ) from error

    @property
    def speaks_rest(self) -> bool:
        """Whether ``get`` and ``download`` work, without MLflow's client."""
        return self.is_remote and http.is_supported()

    @property
    def masked_uri(self) -> str:
        """The URI without its password, for logs and responses."""
        return masked_address(self.uri)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the client, with timeouts and without retries.

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
            with _limited():
                answer = function(*args, **kwargs)
        except MlflowException as error:
            if _is_outage(error):
                hangs = "timed out" in str(error) or "timeout" in str(error)
                raise self._down(_first_line(error), hangs=hangs) from error
            if error.error_code in UNAUTHORIZED:
                raise self._unauthorized() from error
            if any(message in str(error) for message in NO_MLFLOW):
                raise self._not_mlflow() from error
            # The error code is reliable only in a JSON response, which comes from MLflow itself.
            code = "" if NO_JSON in str(error) else error.error_code
            raise _refusal(_first_line(error), code) from error
        except Exception as error:
            # Artifact stores raise the exceptions of their own clients.
            raise TrackingError(
                f"The artifact store failed: {masked(repr(error))}",
                remedy="`vigie doctor` checks the server step by step.",
            ) from error
        if _is_empty(answer):
            raise self._not_mlflow()
        self._has_answered()
        return answer

    def get(self, endpoint: str, **params: str) -> dict[str, Any]:
        """Send a GET request to the server's REST API, without MLflow's client.

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
        return self._answer(lambda: http.ask(self.uri, endpoint, params=params))

    def send(self, method: str, endpoint: str, **fields: Any) -> dict[str, Any]:
        """Send a request with a JSON body to the server's REST API, without MLflow's client.

        Parameters
        ----------
        method : {'POST', 'DELETE'}
            Of the request.
        endpoint : str
            Below ``/api/2.0/mlflow``, such as ``runs/search``.
        **fields
            The body.

        Raises
        ------
        TrackingUnavailableError, ModelNotFoundError, TrackingError
            As ``call``.
        """
        return self._answer(
            lambda: http.ask(self.uri, endpoint, method, body=fields), is_change=True
        )

    def download(self, path: str, target: Path) -> None:
        """Download an artifact that the server proxies to a file.

        Parameters
        ----------
        path : str
            The part of its URI after ``mlflow-artifacts:/``.
        target : Path
            The file.

        Raises
        ------
        TrackingUnavailableError, TrackingError
            As ``call``.
        """
        status = self._request(lambda: (http.download(self.uri, path, target, MOST_BYTES), None))[0]
        if status != 200:
            raise _refusal(f"{path}: HTTP {status}")

    def _answer(
        self, send: Callable[[], tuple[int, dict[str, Any]]], *, is_change: bool = False
    ) -> dict[str, Any]:
        status, answer = self._request(send, is_change=is_change)
        if status >= 400:
            message = str(answer.get("message") or f"HTTP {status}").splitlines()[0]
            raise _refusal(message[:300], answer.get("error_code", ""))
        return answer

    def _request(
        self, send: Callable[[], tuple[int, T]], *, is_change: bool = False
    ) -> tuple[int, T]:
        """Return the status and the body of a response; raise if the server is unavailable.

        MLflow may fail to change one thing, such as a row that another client has locked; then it
        answers with a code of its own, and is there.
        """
        import requests

        self.require()
        try:
            status, answer = send()
        except requests.RequestException as error:
            raise self._down(_reason(error)) from error
        if status >= 500 and not (
            is_change and isinstance(answer, dict) and "error_code" in answer
        ):
            raise self._down(f"HTTP {status}")
        if status == 401:
            raise self._unauthorized()
        self._has_answered()
        return status, answer

    def require(self) -> None:
        """Probe the server; fail fast if it has just failed.

        Raises
        ------
        TrackingUnavailableError
            If it does not answer.
        """
        if not self.is_remote or time.monotonic() < self._answered_at + TRUST_AFTER_ANSWER_S:
            return
        if self._breaker.is_open:
            raise self._unavailable("it did not answer a moment ago")
        import requests

        try:
            status = http.probe(self.uri, _probe.get())
        except requests.RequestException as error:
            raise self._down(_reason(error)) from error
        if status == 404:
            raise self._not_mlflow()
        if status >= 500:
            raise self._down(f"HTTP {status}")
        self._answered_at = time.monotonic()

    def interrupt(self) -> None:
        """End all requests of this process to servers, so that it can end at once."""
        from vigie.registry import bounds

        bounds.interrupt()

    def log_refusal(self, error: TrackingError, what: str) -> None:
        """Log a failed record; consecutive failures with the same reason are one error."""
        with self._lock:
            is_new, self._refusal_logged = self._refusal_logged != str(error), str(error)
        logger.log(logging.ERROR if is_new else logging.DEBUG, "%s %s", what, error)

    def log_outage(self, error: TrackingUnavailableError) -> None:
        """Log an outage as one error, however many calls fail."""
        logger.log(logging.ERROR if self._breaker.count() else logging.DEBUG, "%s", error)

    def _has_answered(self) -> None:
        self._answered_at = time.monotonic()
        self._breaker.recovered()

    def _down(self, reason: str, *, hangs: bool = False) -> TrackingUnavailableError:
        """Open the circuit breaker, and return the error to raise."""
        outage = self._unavailable(reason)
        outage.timed_out = hangs
        # A server that hangs still passes the probe, so the breaker stays open for longer.
        self._breaker.open(outage, QUIET_AFTER_SILENCE_S if hangs else QUIET_AFTER_FAILURE_S)
        self._answered_at = float("-inf")
        return outage

    def _unavailable(self, reason: str) -> TrackingUnavailableError:
        return TrackingUnavailableError(
            f"The MLflow server at {self.masked_uri} cannot be reached ({reason}).",
            remedy="Start it (`vigie up`; where that still runs, Ctrl-C first), correct "
            "MLFLOW_TRACKING_URI, or set MLFLOW_ENABLED=false to work without it.",
        )

    def _not_mlflow(self) -> TrackingUnavailableError:
        return self._down("the server there is not MLflow")

    def _unauthorized(self) -> TrackingUnavailableError:
        # The breaker stays closed: the server is healthy.
        return TrackingUnavailableError(
            f"The MLflow server at {self.masked_uri} rejects Vigie's credentials (401).",
            remedy="Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment "
            "(MLflow does not read .env), or MLFLOW_ENABLED=false to work without it.",
        )


@lru_cache
def server_at(uri: str) -> Server:
    """Return the ``Server`` of this process for a URI."""
    return Server(uri)


def short_timeout() -> AbstractContextManager[None]:
    """Use the short call timeout of manual records."""
    return _set_for_block(_timeout, BY_HAND_TIMEOUT_S)


def patient_probe() -> AbstractContextManager[None]:
    """Use the long probe timeout, for servers that are slow to answer."""
    return _set_for_block(_probe, PATIENT_PROBE_TIMEOUT_S)


@contextmanager
def importing_mlflow() -> Iterator[None]:
    """Let one thread at a time import MLflow, whose packages have circular imports."""
    with _importing:
        yield


def _limited() -> AbstractContextManager[None]:
    return _set_for_block(_limits, {**_OURS, "MLFLOW_HTTP_REQUEST_TIMEOUT": _timeout.get()})


@contextmanager
def _set_for_block(variable: ContextVar[T], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


class _Limit:
    """Replaces a limit of MLflow: ours inside ``_limited``, the user's elsewhere."""

    def __init__(self, variable: Any):
        self._variable = variable

    def get(self) -> Any:
        limits = _limits.get()
        return self._variable.get() if limits is None else limits[self._variable.name]

    def __str__(self) -> str:
        return str(self._variable)


def _install_limits() -> None:
    from mlflow.tracking._tracking_service import client
    from mlflow.utils import request_utils, rest_utils

    from vigie.registry.bounds import BoundedAdapter, within

    theirs = request_utils.TCPKeepAliveHTTPAdapter
    if not issubclass(theirs, BoundedAdapter):

        class Adapter(BoundedAdapter, theirs):  # type: ignore[misc, valid-type]
            """The bounds of ``vigie.registry.bounds``, inside ``_limited``."""

            def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
                if (limits := _limits.get()) is None:
                    return theirs.send(self, request, *args, **kwargs)
                # An upload may take long; what it is answered is short.
                is_upload = request.method == "PUT"
                with within(limits["MLFLOW_HTTP_REQUEST_TIMEOUT"] * (30 if is_upload else 1)):
                    return super().send(request, *args, **kwargs)

        request_utils.TCPKeepAliveHTTPAdapter = Adapter
        # Sessions that exist have the adapter of before.
        request_utils._cached_get_request_session.cache_clear()

    for module in (rest_utils, client):
        for name in _OURS:
            variable = getattr(module, name, None)
            if variable is not None and not isinstance(variable, _Limit):
                setattr(module, name, _Limit(variable))


def _refusal(reason: str, error_code: str = "") -> VigieError:
    """Return the error for a negative response."""
    if error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
        return ModelNotFoundError(reason, remedy="`vigie models list` shows what exists.")
    kind = TrackingRefusedError if error_code in AT_FAULT else TrackingError
    return kind(
        f"MLflow refused: {reason}", remedy="`vigie doctor` checks the server step by step."
    )


def _is_outage(error: Exception) -> bool:
    """Whether no response came at all, rather than a negative one."""
    text = str(error)
    return "failed with exception" in text or "failed with timeout exception" in text


def _is_empty(answer: Any) -> bool:
    """Whether MLflow's client has made this from an empty response, such as ``{}``."""
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
    from vigie.registry.bounds import BadAnswer

    if isinstance(error, BadAnswer):
        return str(error)
    text = str(error).lower()
    if "resolve" in text or "name or service" in text:
        return "no such host"
    return "no answer in time" if "timed out" in text else "connection refused"


def _first_line(error: Exception) -> str:
    # Messages of MLflow's client may contain the URI with its password.
    return masked(str(error).splitlines()[0][:300])
