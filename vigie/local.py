"""MLflow and the service as local processes, with embedded defaults."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from vigie import logs
from vigie.config import LOOPBACK, Settings, masked_address
from vigie.errors import ConflictError, HistoryError, InvalidDataError, TrackingError, VigieError
from vigie.logs import LogFormat
from vigie.registry import pages
from vigie.state import make_private, require_writable
from vigie.tls import Certificate, trusting

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 90.0
WATCHDOG = """read nothing
{ kill -s TERM -- "-$0"; sleep 8; kill -s KILL -- "-$0"; } 2>/dev/null"""
"""Ends the session of process ``$0`` when the pipe closes: SIGTERM first, then SIGKILL."""

WATCH_EVERY_S, SILENT_AFTER = 2.0, 3
"""Pause between two looks at a program; after so many without an answer in turn it is silent."""
HEALTH = "/api/v1/anomalies/health"

ANY = ("0.0.0.0", "::")
HOST_REMEDY = "Set VIGIE_HOST, or --host, to 127.0.0.1, or to 0.0.0.0 for every interface."


class Program(NamedTuple):
    """A program that runs as a child process.

    Attributes
    ----------
    name : str
        What it is.
    process : Popen
        The process.
    health : str
        Where it answers.
    log : Path
        Its log.
    cert : Path or None
        Its certificate, if it speaks HTTPS.
    """

    name: str
    process: subprocess.Popen[bytes]
    health: str
    log: Path
    cert: Path | None = None


def _forget(program: Program) -> None:
    pass


@contextmanager
def mlflow_server(
    settings: Settings, on_start: Callable[[Program], None] = _forget
) -> Iterator[str]:
    """Run an MLflow server at the tracking URI, with its data in the state folder.

    Parameters
    ----------
    settings : Settings
        The tracking URI and the state folder.
    on_start : callable
        Called once it answers.

    Yields
    ------
    str
        Its address.

    Raises
    ------
    ConflictError
        If the port is in use.
    TrackingError
        If the tracking URI is not an address of this machine, or the server does not start.
    InvalidDataError
        If the state folder is not writable.
    """
    port = require_mlflow_port(settings)
    state = settings.state_dir.resolve()
    require_writable(state)
    artifacts = state / "mlflow-artifacts"
    make_private(artifacts)
    command = [
        *(sys.executable, "-P", "-m", "mlflow", "server"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{state / 'mlflow.db'}"),
        *("--artifacts-destination", str(artifacts)),
        # The service asks several times a second; a line for each answer is 20 MB a day.
        *("--uvicorn-opts", "--no-access-log"),
    ]
    environment = {
        # Vigie does not use background jobs, and they cost over a gigabyte of memory.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    url = f"http://127.0.0.1:{port}"
    log = state / "mlflow.log"
    # MLflow's workers import from their working directory first, even with -P. The folder in which
    # the user runs `vigie up` may hold modules of any name; the artifacts folder holds none.
    with running(
        command, environment, log, folder=artifacts, log_format=settings.log_format
    ) as process:
        program = Program("MLflow", process, f"{url}/health", log)
        await_health(*program)
        on_start(program)
        yield settings.mlflow_tracking_uri


def runs_page(settings: Settings) -> str:
    """Return the address of MLflow's page with the runs; create their experiment if necessary.

    Raises
    ------
    TrackingError
        If the server does not answer as MLflow does.
    """
    name, base = settings.mlflow_experiment_name, settings.mlflow_tracking_uri.rstrip("/")
    api = f"{base}/api/2.0/mlflow/experiments"
    try:
        with httpx.Client(timeout=60.0, trust_env=False) as client:
            found = client.get(f"{api}/get-by-name", params={"experiment_name": name})
            if found.is_success:
                experiment = found.json()["experiment"]["experiment_id"]
            else:
                created = client.post(f"{api}/create", json={"name": name}).raise_for_status()
                experiment = created.json()["experiment_id"]
    except (httpx.HTTPError, ValueError, LookupError) as error:
        raise TrackingError(f"MLflow at {base} did not name its experiment: {error}.") from error
    return pages.runs_page(base, experiment) or base


def own_url(settings: Settings) -> str:
    """Return the address at which this machine reaches the service."""
    host = settings.host
    own = "127.0.0.1" if host in ANY else f"[{host}]" if ":" in host else host
    return f"{_scheme(settings)}://{own}:{settings.port}"


def _scheme(settings: Settings) -> str:
    return "https" if settings.tls_cert else "http"


def _client(cert: Path | None, timeout: float) -> httpx.Client:
    """Return a client for programs of this machine, one with this certificate among them."""
    verify = trusting(cert) if cert else True
    return httpx.Client(timeout=timeout, trust_env=False, verify=verify)


def client_of(settings: Settings, timeout: float) -> httpx.Client:
    """Return a client for the service of this machine, with the settings' API key.

    Raises
    ------
    InvalidDataError
        If the file of its certificate cannot be read.
    """
    client = _client(settings.tls_cert, timeout)
    if settings.api_key and (key := settings.api_key.get_secret_value()):
        client.headers["Authorization"] = f"Bearer {key}"
    client.base_url = httpx.URL(own_url(settings))
    return client


@contextmanager
def service(settings: Settings, on_start: Callable[[Program], None] = _forget) -> Iterator[str]:
    """Run the service as a child process.

    Parameters
    ----------
    settings : Settings
        Its address and the state folder.
    on_start : callable
        Called once it answers.

    Yields
    ------
    str
        Its address.

    Raises
    ------
    ConflictError
        If the port is in use.
    InvalidDataError
        If the service cannot listen there, or the state folder is not writable.
    """
    require_own(settings)
    require_keys(settings)
    host, url = settings.host, own_url(settings)
    require_writable(settings.state_dir)
    make_private(settings.state_dir)
    # Without -P, Python would run a folder `vigie` in the working directory instead.
    command = [sys.executable, "-P", "-m", "vigie.cli", "serve"]
    log = settings.state_dir / "vigie.log"
    # Both start at the same time here, so MLflow's first answers are slow.
    environment = {
        "VIGIE_TRACKING_PATIENCE_S": str(max(settings.tracking_patience_s, 10.0)),
        **settings.variables("host", "port", "auth", "tls_cert", "tls_key"),
    }
    with running(command, environment, log, log_format=settings.log_format) as process:
        program = Program("The service", process, f"{url}{HEALTH}", log, settings.tls_cert)
        await_health(*program)
        on_start(program)
        yield (
            f"{_scheme(settings)}://localhost:{settings.port}" if host in (*ANY, *LOOPBACK) else url
        )


def require_room(settings: Settings) -> None:
    """Check that MLflow and the service can start here, before either does.

    Raises
    ------
    ConflictError
        If Vigie runs at the address already, or another program has one of the ports.
    TrackingError
        If the tracking URI is not an address of this machine.
    InvalidDataError
        If the service cannot listen at its address, or the state folder is not writable.
    """
    url, mlflow = own_url(settings), settings.mlflow_tracking_uri.rstrip("/")
    with _client(settings.tls_cert, 2.0) as client:
        if _is_vigie(client, f"{url}{HEALTH}"):
            has_mlflow = _answers(client, f"{mlflow}/health")
            with_mlflow = f", with MLflow at {mlflow}" if has_mlflow else ", but MLflow does not"
            raise ConflictError(
                f"Vigie already runs at {url}/docs{with_mlflow}.",
                remedy="Stop it with Ctrl-C in its terminal first, or give this one addresses of "
                "its own: --port and MLFLOW_TRACKING_URI.",
            )
    require_mlflow_port(settings)
    require_own(settings)
    require_writable(settings.state_dir)
    require_keys(settings)


def _is_vigie(client: httpx.Client, url: str) -> bool:
    """Return whether the service answers there."""
    try:
        answer = client.get(url)
        return answer.is_success and {"status", "version"} <= set(answer.json())
    except (httpx.TransportError, ValueError, TypeError):
        return False


def require_mlflow_port(settings: Settings) -> int:
    """Check that MLflow can listen at the tracking URI, and return its port.

    Raises
    ------
    ConflictError
        If the port is in use.
    TrackingError
        If the tracking URI is not an address of this machine.
    """
    address = urlsplit(settings.mlflow_tracking_uri)
    if address.scheme != "http" or address.hostname not in LOOPBACK:
        raise TrackingError(
            f"{masked_address(settings.mlflow_tracking_uri)} is not an address of this machine, so "
            "Vigie cannot start a server there.",
            field="MLFLOW_TRACKING_URI",
            remedy="Use `vigie serve` with the server that runs there.",
        )
    port = address.port or 80
    another = f"http://localhost:{port + 1}"
    require_free(port, f"set MLFLOW_TRACKING_URI={another} to start MLflow on another port, "
                       "or use `vigie serve` if the MLflow there is the one you want")  # fmt: skip
    return port


def free_ports(n: int) -> list[int]:
    """Return ports of this machine that nothing listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [int(probe.getsockname()[1]) for probe in probes]


def require_own(settings: Settings) -> None:
    """Check that the service can listen at its address; raise as ``require_free`` does."""
    another = settings.port + 1
    require_free(settings.port, f"use --port {another} (VIGIE_PORT={another})", settings.host)


def require_keys(settings: Settings) -> None:
    """Check that somebody has an API key, before a service demands one of everybody.

    A database that does not answer is no reason not to start: nobody gets in until it does.

    Raises
    ------
    InvalidDataError
        If nobody has one, or the certificate cannot be used.
    """
    if settings.tls_cert:
        Certificate(settings.tls_cert, settings.tls_key)
    if not settings.demands_keys:
        return
    try:
        n_keys, place = active_keys(settings)
    except HistoryError as error:
        logger.warning("Whether there are API keys is not known. %s", error)
        return
    if n_keys:
        return
    where = "" if settings.is_local else f" at {settings.host}"
    raise InvalidDataError(
        f"The service would demand an API key of everybody{where}, but there is none in {place}.",
        field="VIGIE_HOST" if settings.auth == "auto" else "VIGIE_AUTH",
        remedy="Create one first: `vigie keys create NAME --scope admin`. Or let everybody in who "
        "reaches the port: --insecure (VIGIE_AUTH=off).",
    )


def active_keys(settings: Settings) -> tuple[int, str]:
    """Return how many API keys are valid, and where they are stored.

    Raises
    ------
    HistoryError
        If the database does not say so.
    """
    from vigie.history.keys import KeyStore

    store = KeyStore(settings)
    try:
        return sum(key.is_active(datetime.now(UTC)) for key in store.all()), store.place
    finally:
        store.close()


def require_free(port: int, remedy: str, host: str = "127.0.0.1") -> None:
    """Check that this machine can listen on a port.

    Parameters
    ----------
    port : int
        The port.
    remedy : str
        What else can be done where it is in use.
    host : str
        The address, or a name for it.

    Raises
    ------
    ConflictError
        If it is in use.
    InvalidDataError
        If the host is not an address of this machine, or the port needs special rights.
    """
    refused: OSError | None = None
    is_free = False
    for family, address in _addresses(host, port):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
                is_free = True
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConflictError(
                    f"Port {port} is in use.", remedy=f"Stop what runs there, or {remedy}."
                ) from error
            refused = error
    if is_free or refused is None:
        return
    if refused.errno == errno.EACCES:
        raise InvalidDataError(
            f"Port {port} needs special rights ({refused.strerror}).", remedy=f"Rather {remedy}."
        ) from refused
    raise InvalidDataError(
        f"'{host}' is not an address of this machine ({refused.strerror}).",
        field="VIGIE_HOST",
        remedy=HOST_REMEDY,
    ) from refused


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """Return the families and the addresses of a host.

    Raises
    ------
    InvalidDataError
        If it has none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "no name of a host"
        raise InvalidDataError(
            f"'{host}' has no address ({reason}).", field="VIGIE_HOST", remedy=HOST_REMEDY
        ) from error
    return [(family, address) for family, _, _, _, address in found]


@contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    folder: Path | None = None,
    log_format: LogFormat = "text",
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block ends, then end it and its children.

    They also end when this process is killed: that closes the pipe on which a watchdog shell waits.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    environment : mapping of str to str
        Variables in addition to those of this process.
    log : Path
        Its output is appended to this file; see ``logs.keep``.
    folder : Path, optional
        Its working directory; by default the current one.
    log_format : {'text', 'json'}
        Of the file.

    Yields
    ------
    Popen
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    assert process.stdout
    keeper = threading.Thread(
        target=logs.keep, args=(process.stdout, log, log.stem, log_format), daemon=True
    )
    keeper.start()
    with subprocess.Popen(
        ["/bin/sh", "-c", WATCHDOG, str(process.pid)], stdin=subprocess.PIPE, start_new_session=True
    ) as watchdog:
        try:
            yield process
        finally:
            _stop(process)
            watchdog.kill()
            # What the process has said last, unless a child of its own holds the pipe open.
            keeper.join(timeout=2.0)


def await_health(
    name: str, process: subprocess.Popen[bytes], url: str, log: Path, cert: Path | None = None
) -> None:
    """Wait until a process answers.

    Raises
    ------
    VigieError
        If it exits instead, or takes too long.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    # One client for all tries: making one reads the certificates, which takes as long as a try.
    with _client(cert, 1.0) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise VigieError(
                    f"{name} exited with status {process.returncode} while starting.",
                    remedy=f"See its log: {log}.",
                )
            if _answers(client, url):
                return
            time.sleep(0.1)
    raise VigieError(
        f"{name} did not answer within {START_TIMEOUT_S:.0f} s.", remedy=f"See its log: {log}."
    )


def watch(
    programs: Sequence[Program], tell: Callable[[str], None], every_s: float = WATCH_EVERY_S
) -> None:
    """Tell of each program that ends, and of one that does not answer, until all have ended.

    Parameters
    ----------
    programs : sequence of Program
        They have been started.
    tell : callable
        Called with a sentence.
    every_s : float
        Pause between two looks, in seconds.
    """
    alive, failures = list(programs), Counter[str]()
    with ExitStack() as stack:
        clients = {
            program.name: stack.enter_context(_client(program.cert, 5.0)) for program in programs
        }
        while alive:
            for program in list(alive):
                if (status := program.process.poll()) is not None:
                    alive.remove(program)
                    how = f"by signal {-status}" if status < 0 else f"with status {status}"
                    tell(f"{program.name} has ended {how}. {_after_end(program, alive)}")
                elif _answers(clients[program.name], program.health):
                    if failures.pop(program.name, 0) >= SILENT_AFTER:
                        tell(f"{program.name} answers again.")
                else:
                    failures[program.name] += 1
                    if failures[program.name] == SILENT_AFTER:
                        tell(f"{program.name} does not answer. See its log: {program.log}.")
            time.sleep(every_s)


def _after_end(ended: Program, alive: Sequence[Program]) -> str:
    rest = "".join(f" {program.name} goes on." for program in alive)
    return f"See its log: {ended.log}.{rest} To start both again: Ctrl-C, then `vigie up`."


def _answers(client: httpx.Client, url: str) -> bool:
    with suppress(httpx.TransportError):
        return client.get(url).is_success
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children: SIGTERM first, then SIGKILL."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(timeout=8)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
