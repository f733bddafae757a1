"""Settings, read from the environment, ``.env`` and ``vigie.toml`` by this module alone.

The three MLflow variables keep MLflow's names; all others begin with ``VIGIE_``. Arguments given
in code take precedence over the environment, the environment over ``.env``, and that over
``vigie.toml``, where names are in lower case without ``VIGIE_``.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from math import inf
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote, urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from vigie.alarm_rules import (
    AlarmRule,
    AlertRoute,
    Channel,
    LoadLimits,
    Maintenance,
    read_tables,
)
from vigie.errors import InvalidDataError, SettingsFileError
from vigie.faults import told
from vigie.keys import hidden
from vigie.logs import LogFormat
from vigie.settings_file import ENCODING, SettingsFile, unreadable

ENV_FILE = ".env"
FILE, FILE_VARIABLE = "vigie.toml", "VIGIE_CONFIG"
"""The configuration file in the working directory, and the variable that names another."""
ALGORITHMS = "vigie.detectors.catalogue:algorithms"
"""A name only, since detectors know no settings, and settings no detectors but for theirs."""
DATABASES = ("sqlite", "postgresql", "postgresql+psycopg")
"""Supported databases of the history."""
SECRETS = (
    # user:password@host with any password; token@host; ...?password=...
    (re.compile(r"(://[^\s/:@]*):\S+@"), r"\1:***@"),
    (re.compile(r"([\w.+-]*):[^\s/'\"]+@"), r"\1:***@"),
    (re.compile(r"://[^\s/:@]+@"), "://***@"),
    (re.compile(r"(?i)((?:password|passwd|pwd|token|secret)=)[^&\s]+"), r"\1***"),
)
CREDENTIALS = re.compile(r"(?s)([\w+.-]+://)(?:([^/:@]*):(.*)|([^/@]*))@")
"""Of a whole address, in which nothing else follows that could have an @."""
TABLES = ("alarms", "maintenance", "alarm_load", "alert_channels", "alert_routes")
"""Settings that are tables, within which a fault has a place."""
CONFIDENTIAL = ("alert_channels",)
"""Those of which an error shows nothing: a password may be anywhere in them."""
SHORTEST_SECRET = 4
"""A shorter password is masked in addresses only: it may be a part of any word."""
_confided: set[str] = set()

# Upper limits keep one value from taking all memory; each is far above what any model gains from.
Layers = Annotated[
    tuple[Annotated[int, Field(gt=0, le=1024)], ...], Field(min_length=1, max_length=8), NoDecode
]
Horizons = Annotated[
    tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=1, max_length=20), NoDecode
]
Range = tuple[float | None, float | None]
Durability = Literal["fast", "durable"]
Kind = Literal["argument", "environment", "env_file", "file", "default"]
Share = Annotated[int, Field(ge=2)] | Annotated[float, Field(gt=0, le=1)]

SEE_REFERENCE = "See docs/reference/settings.md (in the documentation: Reference, Settings)."
SERVICE_LINK = (
    "Kubernetes sets VIGIE_PORT so for a Service named vigie: write `enableServiceLinks: false` "
    "into the pod's spec, or give the Service another name."
)
HOST = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63})*\.?")
PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
RATE = re.compile(rf"\s*([1-9]\d{{0,8}})\s*/\s*({'|'.join(PERIODS)})s?\s*", re.IGNORECASE)
ORIGIN = re.compile(r"https?://(?:[\w.-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Addresses that only this machine reaches."""
ESCAPES = "in a password, write @ : / [ as %40 %3A %2F %5B"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the value of a setting comes from.

    Attributes
    ----------
    kind : str
        "argument", "environment", "env_file" (``.env``), "file" (``vigie.toml``) or "default".
    path : Path or None
        The file, if it is one.
    line : int or None
        Its line, from 1, where that is known.
    """

    kind: Kind
    path: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        if self.path is None:
            return self.kind
        return f"{self.path}, line {self.line}" if self.line else str(self.path)


class Settings(BaseSettings):
    """All settings, with their defaults and units.

    Raises
    ------
    InvalidDataError
        If a value cannot be used; ``faults`` has each variable that is at fault.
    SettingsFileError
        If ``.env`` or the configuration file cannot be read, or a name in the latter is no setting.
    """

    model_config = SettingsConfigDict(
        env_prefix="VIGIE_",
        env_file=ENV_FILE,
        env_file_encoding=ENCODING,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    mlflow_tracking_uri: str = Field(
        "http://localhost:5000", validation_alias="MLFLOW_TRACKING_URI"
    )
    """Where runs and models are stored: the address of a server, or a database that MLflow opens
    directly, such as sqlite:///mlflow.db."""
    mlflow_experiment_name: str = Field(
        "anomaly-detection", validation_alias="MLFLOW_EXPERIMENT_NAME", min_length=1
    )
    """Experiment of the training runs; created if it does not exist."""
    mlflow_enabled: bool = Field(True, validation_alias="MLFLOW_ENABLED")
    """False: no run, no version, no call to MLflow; every tracking method returns silently."""
    tracking_patience_s: float = Field(1.2, gt=0)
    """Seconds that a training waits for its record; then it continues, and the record is completed
    in the background. A healthy server needs a fifth of that."""
    figures: bool = True
    """False: runs get no figures. They cost more processor time than all else of a record."""

    contamination: float = Field(0.01, ge=1e-9, lt=0.5)
    """False-alarm rate for each reading, between 0 and 0.5: the share of healthy readings that may
    be called anomalous. 0.01 is a rate that a hundred training rows can support; lower it once you
    have more."""
    false_alarms_per_month: float | None = Field(None, gt=0, le=1_000_000)
    """False alarms that a healthy asset may raise in 30 days, at most, such as 1 or 0.5. The limit
    of an alarm then follows how often readings come, so they need times. Not set, it follows the
    contamination: about one false alarm in ten thousand readings. Needs 2000 training rows."""
    time_ordered: bool = True
    """Training rows are in time order. Calibration then holds out stretches of time instead of
    random rows, so that the slow drift of a machine counts as healthy. False only for rows without
    order."""
    calibration_folds: int = Field(5, ge=2, le=1000)
    """Number of these stretches, from 2 to 1000. Fewer and longer ones tolerate slower drift."""
    trend_window: int = Field(20, ge=2, le=1000)
    """Readings that are averaged for the state of the asset, from 2 to 1000. Twenty make a shift
    visible that is small against the noise; a clear fault is an alarm after ten to twenty
    readings."""
    random_state: int = 42
    """Seed of every training: the same data give the same model."""

    n_estimators: int = Field(200, gt=0, le=10_000)
    """Isolation Forest: number of trees, at most 10000. More trees make scores depend less on
    the seed."""
    max_samples: Share | Literal["auto"] = "auto"
    """Isolation Forest: rows that each tree sees; a count from 2, a share with a dot such as 0.5
    (1.0: all), or auto: at most 512."""
    nu: float = Field(0.5, gt=0, lt=1)
    """One-Class SVM: upper bound on the share of training rows outside of the learned region, and
    lower bound on the share of support vectors. It does not set the false alarms; the contamination
    does."""
    kernel: Literal["rbf", "linear", "poly", "sigmoid"] = "rbf"
    """One-Class SVM: how two readings are compared; rbf, linear, poly or sigmoid. Only rbf closes
    the region on all sides."""
    gamma: (
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["local", "scale", "auto"]
    ) = "local"
    """One-Class SVM: how fast similarity decreases with distance; a number, local, scale or auto.
    scale follows the number and the spread of the sensors; local is three times that."""
    svm_rows: Annotated[int, Field(ge=2)] | Literal["all"] = 4096
    """One-Class SVM: most rows that the solver uses, spread evenly over the training; a count, or
    all for the exact solution, whose time grows with the square of the rows."""
    horizons: Horizons = (1, 2, 4)
    """Vector autoregression: the forecast of a row uses the means of so many last rows; up to 20
    numbers, each from 1 to 1000."""
    penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["auto"] = "auto"
    """Vector autoregression: ridge penalty per row, in squared standard deviations; auto picks the
    one from 0.001 to 10 that forecasts held-out blocks best."""
    encoder_layers: Layers = (32, 16)
    """LSTM autoencoder: hidden units of the encoder's layers; up to 8, each of 1024 at most."""
    decoder_layers: Layers = (16, 32)
    """LSTM autoencoder: hidden units of the decoder's layers; up to 8, each of 1024 at most."""
    sequence_length: int = Field(10, ge=2, le=1000)
    """LSTM autoencoder: consecutive readings judged together, from 2 to 1000. A machine is
    judged so many readings after its start."""
    batch_size: int = Field(32, gt=0, le=10_000)
    """LSTM autoencoder: sequences in a training step, at most 10000. On a GPU, larger batches
    cost nothing."""
    epochs: int = Field(20, gt=0, le=1_000_000)
    """LSTM autoencoder: passes over the training rows, at most; up to 1000000. With some
    thousand rows or more, a tenth is held out and training ends when that improves no more."""
    learning_rate: float = Field(0.01, gt=0, le=1)
    """LSTM autoencoder: peak learning rate of the optimizer (Adam)."""

    faulty_values: Literal["refuse", "impute"] = "refuse"
    """What to do with a reading whose value is missing or impossible: refuse it with 422, or
    impute: judge it without that sensor, and report it under imputed."""
    sensor_ranges: Annotated[dict[str, Range], NoDecode] = Field(default_factory=dict)
    """Physical ranges of sensors, as JSON: {"temperature": [-40, 150], "rms": [0, null]}."""

    alarms: Annotated[tuple[AlarmRule, ...], NoDecode] = ()
    """Which events raise alarms, and when, by patterns of assets; the first rule that fits an asset
    counts. Without one, each event is an alarm at once. See Events and alarms."""
    maintenance: Annotated[tuple[Maintenance, ...], NoDecode] = ()
    """When which assets are serviced, week by week; their alarms are silent then."""
    alert_channels: Annotated[dict[str, Channel], NoDecode] = Field(default_factory=dict)
    """Who can be told of alarms, by a name: a webhook, e-mail, or an address of Apprise. See Get
    told."""
    alert_routes: Annotated[tuple[AlertRoute, ...], NoDecode] = ()
    """Which alarms are told by which channels: by assets, kind, criticality and time of the week.
    Without a route, every alarm is told by every channel."""
    alert_group_s: float = Field(5.0, ge=0, le=3600)
    """Seconds for which an alert waits for others of its channel."""
    alert_group_from: int = Field(4, ge=2)
    """So many alerts of a channel that wait together are one message."""
    alert_max_age_s: float = Field(86_400.0, gt=0)
    """Nobody is told of an alarm whose readings were older than this when they came, in seconds, as
    those of a history that is loaded."""
    longest_shelf_s: float = Field(86_400.0, gt=0, le=31_536_000)
    """Longest time for which an alarm may be shelved, in seconds."""
    alarm_load: LoadLimits = Field(default_factory=LoadLimits)
    """What counts as a standing, fleeting or chattering alarm and as a flood of them, in
    GET /alarms/load."""

    host: str = "127.0.0.1"
    """Address that the service listens on; 0.0.0.0 for every interface. On all but 127.0.0.1, ::1
    and localhost it demands an API key of everybody: see VIGIE_AUTH."""
    port: int = Field(8084, ge=0, le=65535)
    """Port of the service."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Names to which the service answers besides localhost, separated by commas: those that a
    reverse proxy sends as Host; * for any. Needed where VIGIE_HOST is this machine only; elsewhere
    every name is answered unless some are given."""
    root_path: str = ""
    """Path under which a reverse proxy serves the API, such as /vigie. The proxy may strip it or
    not."""
    max_body_bytes: int = Field(32 * 1024 * 1024, gt=0)
    """Largest request body in bytes; a larger one is refused with 413."""
    client_patience_s: float = Field(10.0, gt=0)
    """Seconds that a client may take to send a request, or, for a long one, each 10 KiB of it;
    otherwise it is refused with 408."""
    auth: Literal["auto", "on", "off"] = "auto"
    """Who needs an API key (`vigie keys create`): everybody (on), nobody (off), or, by default,
    everybody but programs of this machine that reach a service on 127.0.0.1 without a proxy."""
    api_key: SecretStr | None = None
    """The key that `vigie doctor`, `vigie train --server` and `vigie.client` send to a service."""
    rate_limit: str | None = None
    """Most requests of each key, such as 600/minute (second, minute, hour, day), for each process
    of the service; more are refused with 429. Where no key is needed, of each address."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may ask the service from a browser, such as https://scada.example,
    separated by commas."""
    tls_cert: Path | None = None
    """Certificate of the service with its chain, as PEM: it then speaks HTTPS only. A renewed file
    is used from the next connection on."""
    tls_key: Path | None = None
    """Private key of the certificate, as PEM without a password; by default in the same file."""
    stop_patience_s: float = Field(5.0, ge=0)
    """Seconds that open requests may still take when the service is stopped. The supervisor must
    wait longer before it kills: `vigie up` waits 8 s, Docker 10 s, Kubernetes 30 s."""
    max_queued_jobs: int = Field(20, ge=0)
    """Trainings that may wait while one runs; a further one is refused with 429."""
    registry_poll_s: float = Field(5.0, gt=0)
    """Seconds between two checks of the registry: a promoted version serves that much later at
    most."""
    promotion: Literal["manual", "automatic"] = "manual"
    """Who promotes a version in Staging: you (manual), or the service itself (automatic), once the
    version has judged the same readings as the one that serves for a day, and has not called more
    of them anomalies; see Compare a version before you promote it."""
    state_dir: Path = Path(".vigie")
    """Folder of local state: cached models, the history, and the data of the MLflow that `vigie up`
    starts."""
    history_enabled: bool = True
    """False: readings are not stored, so windows and states exist only within a batch."""
    history_url: str | None = None
    """SQLAlchemy URL of the history; by default a SQLite file in the state folder. PostgreSQL:
    postgresql+psycopg://user:password@host/vigie."""
    history_retention_days: float | None = Field(None, gt=0, le=36_500)
    """Age at which a reading is deleted, in days; by default never. The newest 1000 of each asset
    stay, so no verdict depends on it."""
    history_durability: Durability = "fast"
    """When a reading is answered: fast, once it is written, so that it outlives the service, even
    one that is killed; or durable, once the database has it on disk, so that it outlives a power
    failure too. PostgreSQL mostly does that anyway: fast leaves synchronous_commit as it is
    set there."""
    max_gap_s: float = Field(3600.0, gt=0)
    """A longer pause between two readings of an asset, in seconds, restarts its window. Readings
    before and after a shorter one are judged as if they followed each other: lower it if readings
    come every few seconds and a logger pauses for minutes."""
    csv_for_people: bool = True
    """Text in the CSV of `vigie detect` is written so that a spreadsheet takes it as text: with an
    apostrophe before = + - @, and control characters escaped. False: as it is, for programs."""
    log_format: LogFormat = "text"
    """Log lines as text, with time and level, or as JSON objects. A terminal gets neither."""
    access_log: bool = False
    """True: the log has a line for each request: method, path, status, time and client."""
    telemetry: bool = False
    """True: spans and metrics of requests are sent by OpenTelemetry (OTLP over HTTP) to
    OTEL_EXPORTER_OTLP_ENDPOINT. Needs the package opentelemetry-exporter-otlp-proto-http."""
    data: Path | None = None
    """Folder of public data sets for the demo (SKAB, as skab/) and the benchmarks; by default
    none."""

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise self._refused(error, self.origins(*values)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(Path(ENV_FILE), error) from error
        for address in (self.mlflow_tracking_uri, self.history_url or ""):
            confide(address)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings, the first of which wins."""
        return init_settings, env_settings, dotenv_settings, _FromFile(settings_cls)

    @classmethod
    def origins(cls, *arguments: str) -> dict[str, Origin]:
        """Return where each field comes from.

        Parameters
        ----------
        *arguments : str
            Fields that are given in code.

        Raises
        ------
        SettingsFileError
            As for the settings themselves.
        """
        file = settings_file()
        in_environment, in_env_file = EnvSettingsSource(cls)(), DotEnvSettingsSource(cls)()
        found = {}
        for field in cls.model_fields:
            names = {field, cls.variable(field)}
            if names & {*arguments}:
                found[field] = Origin("argument")
            elif names & in_environment.keys():
                found[field] = Origin("environment")
            elif names & in_env_file.keys():
                found[field] = Origin("env_file", Path(ENV_FILE).absolute())
            elif file and field in file.values:
                found[field] = Origin("file", file.path, file.line(field))
            else:
                found[field] = Origin("default")
        return found

    @classmethod
    def _refused(cls, error: ValidationError, origins: dict[str, Origin]) -> InvalidDataError:
        messages: dict[str, dict[str, None]] = {}
        given: dict[str, Any] = {}
        places = {cls.variable(name): origin for name, origin in origins.items() if origin.path}
        for fault in error.errors(include_url=False):
            variable, message = cls.variable(str(fault["loc"][0])), told(fault)
            if fault["type"] == "too_short" and variable in messages:
                continue  # Pydantic does not count the items that it has just refused.
            if fault["loc"][0] in TABLES and (place := fault["loc"][1:]):
                message = f"{'.'.join(map(str, place))}: {message}"
            messages.setdefault(variable, {})[message] = None
            whole = len(fault["loc"]) == 1 or variable not in given
            given[variable] = fault["input"] if whole else given[variable]
        for variable in given.keys() & {cls.variable(name) for name in CONFIDENTIAL}:
            given[variable] = "..."
        faults = [
            # Of a value that may be one of several kinds, each kind has its own message.
            {
                "field": variable,
                "message": f"{'; or: '.join(of_it)}, but it is {_shown(given[variable])}"
                + (f" ({places[variable]})" if variable in places else ""),
            }
            for variable, of_it in messages.items()
        ]
        is_service_link = str(given.get("VIGIE_PORT")).startswith("tcp://")
        return InvalidDataError(
            f"{faults[0]['message']}.",
            field=faults[0]["field"],
            remedy=SERVICE_LINK if is_service_link else SEE_REFERENCE,
            faults=faults,
        )

    @property
    def model_cache(self) -> Path:
        """Where versions of models are cached."""
        return self.state_dir / "models"

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the service's address."""
        return self.host in LOOPBACK or is_loopback_address(self.host)

    @property
    def demands_keys(self) -> bool:
        """Whether everybody needs a key."""
        return self.auth == "on" or (self.auth == "auto" and not self.is_local)

    @property
    def rate(self) -> tuple[int, float] | None:
        """How many requests of a key are allowed in how many seconds."""
        match = RATE.fullmatch(self.rate_limit or "")
        return (int(match[1]), PERIODS[match[2].lower()]) if match else None

    def variables(self, *fields: str) -> dict[str, str]:
        """Return the variables by which another process comes to these values of fields."""
        values = {field: getattr(self, field) for field in fields}
        return {
            self.variable(name): written(value)
            for name, value in values.items()
            if value is not None
        }

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the environment variable that sets a field."""
        if field.isupper():
            return field
        info = cls.model_fields.get(field)
        alias = info.validation_alias if info else None
        return alias if isinstance(alias, str) else f"VIGIE_{field.upper()}"

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _has_a_scheme(cls, value: str) -> str:
        try:
            urlsplit(value)
        except ValueError:
            raise ValueError(f"The address cannot be read; {ESCAPES}") from None
        if "://" not in value and value != "databricks":
            raise ValueError("An address is expected, such as http://localhost:5000")
        return value

    @field_validator("history_url")
    @classmethod
    def _is_a_database(cls, value: str | None) -> str | None:
        if value is None:
            return None
        kind = value.partition(":")[0]
        if "://" not in value or kind not in DATABASES:
            raise ValueError(f"A database is expected: {', '.join(DATABASES)}")
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise ValueError(f"The address cannot be read; {ESCAPES}") from None
        if parts.netloc.count("@") > 1:
            raise ValueError(f"There are two @; {ESCAPES}")
        return value

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        # Servers take an empty one for every interface.
        if not (HOST.fullmatch(value) or _is_ipv6(value)):
            raise ValueError(
                "A name or an address is expected, without http:// and port, such as 127.0.0.1, "
                "or 0.0.0.0 for every interface"
            )
        return value

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _read_words(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return [word for word in map(str.strip, value.split(",")) if word]

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [n for n in value if n != "*" and not (HOST.fullmatch(n) or _is_ipv6(n))]:
            raise ValueError(
                f"Names are expected, without http:// and port, separated by commas; {wrong[0]!r} "
                "is none"
            )
        return value

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate(cls, value: str | None) -> str | None:
        if value and not RATE.fullmatch(value):
            raise ValueError(f"A rate is expected, such as 600/minute ({', '.join(PERIODS)})")
        return value or None

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not ORIGIN.fullmatch(origin):
                raise ValueError(
                    "Origins are expected, without a path, such as https://scada.example"
                )
        return value

    @field_validator("tls_key")
    @classmethod
    def _has_a_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value and not info.data.get("tls_cert"):
            raise ValueError("A key needs a certificate: set VIGIE_TLS_CERT (--tls-cert) too")
        return value

    @field_validator("root_path")
    @classmethod
    def _is_a_path_of_its_own(cls, value: str) -> str:
        if not re.fullmatch(r"(/[^/?#\s]+)*", value):
            raise ValueError("A path such as /vigie is expected, without / at its end")
        if f"{value}/".startswith("/api/"):
            raise ValueError("/api is the path of the API itself; give another path")
        return value

    @field_validator("max_samples", mode="before")
    @classmethod
    def _one_is_a_count(cls, value: Any) -> Any:
        # As in PyOD: without a dot it is a count, wherever it was written.
        if (value == 1 and isinstance(value, int)) or (
            isinstance(value, str) and re.fullmatch(r"\s*\+?0*1\s*", value)
        ):
            raise ValueError(
                "1 is a count, and a tree needs at least 2 rows; a share has a dot, such as 0.5, "
                "or 1.0 for all rows"
            )
        return value

    @field_validator("horizons")
    @classmethod
    def _ascend(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("Numbers of rows must ascend, such as 1,2,4")
        return value

    @field_validator("encoder_layers", "decoder_layers", "horizons", mode="before")
    @classmethod
    def _read_layers(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return [int(size) for size in value.strip().strip("[]").split(",")]
        except ValueError:
            raise ValueError("Whole numbers are expected, separated by commas") from None

    @field_validator(
        "alarms", "maintenance", "alert_channels", "alert_routes", "alarm_load", mode="before"
    )
    @classmethod
    def _read_tables(cls, value: Any) -> Any:
        return read_tables(value)

    @field_validator("alert_routes")
    @classmethod
    def _name_channels(
        cls, value: tuple[AlertRoute, ...], info: ValidationInfo
    ) -> tuple[AlertRoute, ...]:
        known = info.data.get("alert_channels", {})
        for name in [name for route in value for name in route.channels]:
            if name not in known:
                raise ValueError(f"There is no channel {name!r} in alert_channels")
        return value

    @field_validator("sensor_ranges", mode="before")
    @classmethod
    def _read_ranges(cls, value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError('JSON is expected, such as {"rms": [0, null]}') from None

    @field_validator("sensor_ranges")
    @classmethod
    def _low_before_high(cls, value: dict[str, Range]) -> dict[str, Range]:
        for name, (low, high) in value.items():
            if low is not None and high is not None and low >= high:
                raise ValueError(f"The range of {name} must have its lower end first")
        # TOML has no null; an end at infinity is open too.
        return {
            name: (None if low == -inf else low, None if high == inf else high)
            for name, (low, high) in value.items()
        }


def is_loopback_address(text: str) -> bool:
    """Return whether a text is an address that only this machine reaches; a name is none."""
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return False


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def env_file_names() -> list[str]:
    """Return the names of the variables in ``.env``.

    Raises
    ------
    SettingsFileError
        If it cannot be read.
    """
    return list(_env_file())


def settings_file() -> SettingsFile | None:
    """Return the configuration file: that of ``VIGIE_CONFIG``, or ``vigie.toml``, if it exists.

    Raises
    ------
    SettingsFileError
        If it cannot be read, or a name in it is no setting.
    """
    named = os.environ.get(FILE_VARIABLE) or _env_file().get(FILE_VARIABLE)
    path = Path(named or FILE)
    if not path.exists():
        if named:
            raise SettingsFileError(
                f"There is no file {path.absolute()}.",
                field=FILE_VARIABLE,
                remedy="Name the configuration file, or remove the variable.",
            )
        return None
    file = SettingsFile(path)
    if not file.values.keys() <= Settings.model_fields.keys():
        file.require([field for kind in settings_kinds() for field in kind.model_fields])
    return file


def settings_kinds() -> list[type[Settings]]:
    """Return ``Settings``, and the classes of detectors that have settings of their own."""
    algorithms = resolve_name(ALGORITHMS)().values()
    return [Settings, *(resolve_name(each.settings) for each in algorithms if each.settings)]


class _FromFile(InitSettingsSource):
    """The values of the configuration file that nothing before it has set, whole."""

    def __init__(self, settings_cls: type[BaseSettings]):
        file = settings_file()
        super().__init__(settings_cls, file.values if file else {})

    def __call__(self) -> dict[str, Any]:
        kind = self.settings_cls
        assert issubclass(kind, Settings)
        set_before = {kind.variable(name) for name in self.current_state}
        values = super().__call__()
        return {name: v for name, v in values.items() if kind.variable(name) not in set_before}


def _env_file() -> dict[str, str | None]:
    try:
        return dotenv_values(ENV_FILE, encoding=ENCODING)
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(Path(ENV_FILE), error) from error


def written(value: Any) -> str:
    """Return a value as it is written in the environment."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) and not any(isinstance(part, BaseModel) for part in value):
        return ",".join(map(str, value))
    if isinstance(value, tuple | BaseModel):
        return json.dumps(value, default=_plain)
    return json.dumps(value, default=_plain) if isinstance(value, dict) else str(value)


def _plain(value: Any) -> Any:
    """Return a table of a setting as JSON has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True, exclude_unset=True)
    return written(value) if isinstance(value, SecretStr) else str(value)


def confide(address: str) -> None:
    """Let ``masked`` hide the password of an address wherever it stands in a text."""
    if match := CREDENTIALS.match(address):
        secret = match[3] or match[4] or ""
        forms = {secret, unquote(secret), quote(secret), quote(unquote(secret), safe="")}
        forms |= {repr(form)[1:-1] for form in forms}
        _confided.update(form for form in forms if len(form) >= SHORTEST_SECRET)


def masked(text: str) -> str:
    """Return a text with passwords of URLs and API keys masked, for logs and responses."""
    # The longest first: one may be a part of another.
    for secret in sorted(_confided, key=len, reverse=True):
        text = text.replace(secret, "***")
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return hidden(text)


def masked_address(address: str) -> str:
    """Return a whole address with its password masked, whatever characters that has."""
    if match := CREDENTIALS.match(address):
        user = "" if match[2] is None else f"{match[2]}:"
        address = f"{match[1]}{user}***@{address[match.end() :]}"
    return masked(address)


def _shown(value: Any) -> str:
    if isinstance(value, str | Path):
        return repr(masked_address(str(value)))
    return masked(repr(value))
