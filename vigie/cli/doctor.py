"""``vigie doctor``: the guide's troubleshooting as checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from vigie.cli.environment import read_settings
from vigie.cli.terminal import out
from vigie.errors import TrackingUnavailableError, VigieError

if TYPE_CHECKING:
    from vigie.config import Settings
    from vigie.registry.version import Version
    from vigie.services.mlflow_service import MLflowService


SERVICE_PATIENCE_S = 3.0
MARKS = {True: "[green]ok  [/]", None: "–   ", False: "[red]fail[/]"}
AWAY = "not checked, since MLflow does not answer."


def doctor() -> None:
    """Check settings, local state, the service and MLflow, with a remedy for each failure."""
    failed = False
    for check in examine(read_settings()):
        mark = MARKS[check.passed]
        out.print(f"{mark} {check.question} {escape(check.finding)}", highlight=False)
        if check.passed is False:
            failed = True
            out.print(f"     {escape(check.remedy)}", style="yellow", highlight=False)
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Check:
    """One question, the finding, and the remedy if the check failed.

    ``passed`` is None for what is no fault and no success, or was not checked.
    """

    question: str
    passed: bool | None
    finding: str
    remedy: str = ""


class _NeitherError(VigieError):
    """A finding that is no fault and no success."""


class _Asking:
    """Asks MLflow, until it does not answer: the rest is not checked, and says so."""

    def __init__(self) -> None:
        self.is_away = False

    def __call__(self, question: str, answer: Callable[[], str]) -> Check:
        if self.is_away:
            return Check(question, None, AWAY)

        def noting_outages() -> str:
            try:
                return answer()
            except TrackingUnavailableError:
                self.is_away = True
                raise

        return _answered(question, noting_outages)


def examine(settings: Settings) -> Iterator[Check]:
    """Run the checks in order; skip those that depend on a failed one."""
    from vigie.services.mlflow_service import MLflowService

    yield _answered("Settings known?", _settings)
    yield _state(settings)
    yield _answered("API keys?", partial(_keys, settings))
    running: dict[str, int | None] = {}
    yield _answered("Service running?", partial(_service, settings, running))
    if not settings.mlflow_enabled:
        yield Check(
            "Tracking enabled?",
            False,
            "MLFLOW_ENABLED is false: nothing is recorded.",
            "Set MLFLOW_ENABLED=true, unless that is what you want.",
        )
        return
    yield Check("Tracking enabled?", True, "MLFLOW_ENABLED is true.")
    service, ask = MLflowService(settings), _Asking()
    yield ask("All trainings sent?", lambda: _outbox(service))
    yield ask("Server answers?", lambda: _server(service))
    if not ask.is_away:
        yield from _registry(service, ask, running)
    elif running:
        yield Check("Service up to date?", None, AWAY)


def _registry(
    service: MLflowService, ask: _Asking, running: dict[str, int | None]
) -> Iterator[Check]:
    """Check what MLflow has, and whether the service serves that."""
    from vigie.detectors.catalogue import algorithms

    yield ask("Experiment exists?", lambda: _experiment(service))
    serving: list[Version] = []
    versions = [
        ask(f"Versions of {name}?", partial(_versions, service, name, serving))
        for name in algorithms()
    ]
    if all(check.passed is None for check in versions) and not ask.is_away:
        # Some may have been left out on purpose, but not all.
        versions = [
            Check(check.question, False, "none.", f"Train one: `vigie train FILE --model {name}`.")
            for check, name in zip(versions, algorithms(), strict=True)
        ]
    yield from versions
    for version in serving:
        question = f"Artifacts of {version.name} version {version.version} readable?"
        yield ask(question, partial(_artifacts, service, version))
    if running:
        up_to_date = partial(_up_to_date, service.settings, serving, running)
        yield ask("Service up to date?", up_to_date)


def _answered(question: str, answer: Callable[[], str]) -> Check:
    """Ask a question; whatever goes wrong is the finding, so that the next one can be asked."""
    try:
        return Check(question, True, answer())
    except _NeitherError as finding:
        return Check(question, None, finding.message)
    except VigieError as error:
        return Check(question, False, error.message, error.remedy or "")
    except OSError as error:
        return Check(question, False, f"{error}.", "Check the disk and the rights to the file.")


def _state(settings: Settings) -> Check:
    from vigie.state import require_writable

    question = "Local state writable?"
    try:
        require_writable(settings.state_dir)
    except VigieError as error:
        return Check(question, False, error.message, f"{error.field}: {error.remedy}")
    return Check(question, True, f"in {settings.state_dir.absolute()}.")


def _settings() -> str:
    from vigie.training.variables import unknown_variables

    if sentences := unknown_variables():
        raise VigieError(" ".join(sentences), remedy="Correct or remove the variable.")
    return "yes."


def _keys(settings: Settings) -> str:
    """Say who needs an API key, and whether anybody has one."""
    from vigie.local import active_keys

    if settings.auth == "off":
        raise _NeitherError("nobody needs one, as VIGIE_AUTH=off says.")
    if not settings.demands_keys:
        return f"no program of this machine needs one, since the service is on {settings.host}."
    n_keys, place = active_keys(settings)
    if not n_keys:
        raise VigieError(
            f"everybody needs one, but there is none in {place}.",
            remedy="Create one: `vigie keys create NAME --scope admin`.",
        )
    return f"everybody needs one; {n_keys} {'is' if n_keys == 1 else 'are'} valid."


def _service(settings: Settings, running: dict[str, int | None]) -> str:
    """Say which versions the service serves, and add them to ``running``.

    A service that does not run is no fault.
    """
    import httpx

    from vigie.local import client_of, own_url, require_free

    url = own_url(settings)
    try:
        with client_of(settings, SERVICE_PATIENCE_S) as client:
            answer = client.get("/api/v1/anomalies/status")
        if answer.status_code in (401, 403):
            if settings.api_key:
                raise VigieError(
                    f"what runs at {url} refuses VIGIE_API_KEY ({answer.status_code}).",
                    remedy="Set it to one of its keys with the scope read (`vigie keys list`).",
                )
            raise _NeitherError(
                f"what runs at {url} needs a login ({answer.status_code}), so it was not asked. "
                "With VIGIE_API_KEY, a key with the scope read, it is."
            )
        models = answer.json()["models"].items()
        running |= {name: model["version"] for name, model in models if model["trained"]}
        problems = [model["problem"] for _, model in models if model["problem"]]
    except httpx.TransportError as error:
        # Any free port: only the host matters here.
        require_free(0, "", settings.host)
        if isinstance(error, httpx.ConnectError):
            raise _NeitherError(f"no, none runs at {url} (`vigie up` starts one).") from error
        raise VigieError(
            f"what runs at {url} does not answer ({type(error).__name__}).",
            remedy="Look at the log of the service.",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VigieError(
            f"what runs at {url} is not Vigie.",
            remedy="Set VIGIE_PORT to the port of the service, or to a free one.",
        ) from error
    if not running:
        raise VigieError(
            f"yes, at {url}, but no model serves.",
            remedy=" ".join(problems) or "Train with `vigie train FILE --promote`.",
        )
    serving = ", ".join(
        f"{name} {version or '(not registered)'}" for name, version in running.items()
    )
    return f"yes, at {url}; it serves {serving}."


def _up_to_date(settings: Settings, serving: list[Version], running: dict[str, int | None]) -> str:
    """Compare what the service serves with what it should by the registry."""
    if not serving:
        raise _NeitherError("not checked, since the registry names no version that serves.")
    behind = [
        f"{version.name} {version.version}"
        for version in serving
        if running.get(version.name) != version.version
    ]
    if behind:
        raise VigieError(
            f"no, it does not serve {', '.join(behind)}.",
            remedy=f"It follows the registry within {settings.registry_poll_s:g} s; if it does "
            "not, look at its log, and whether it uses the same MLFLOW_TRACKING_URI.",
        )
    return "yes, it serves what the registry says."


def _outbox(service: MLflowService) -> str:
    summary = service.outbox.summary()
    if summary.waiting + summary.set_aside == 0:
        return "yes, the outbox is empty."
    raise VigieError(
        f"the outbox in {service.outbox.folder} has {summary}.",
        remedy="`vigie sync` sends them; `vigie sync --again` also the dead letters.",
    )


def _server(service: MLflowService) -> str:
    service.server.require()
    return service.server.masked_uri


def _experiment(service: MLflowService) -> str:
    name = service.settings.mlflow_experiment_name
    experiment = service.server.call(service.server.client.get_experiment_by_name, name)
    if experiment is None:
        return f"'{name}' does not; the first training creates it."
    if experiment.lifecycle_stage != "active":
        raise VigieError(
            f"'{name}' has been deleted.",
            remedy="Restore it (`mlflow experiments restore`), or set another "
            "MLFLOW_EXPERIMENT_NAME.",
        )
    return f"'{name}' (id {experiment.experiment_id})."


def _versions(service: MLflowService, name: str, serving: list[Version]) -> str:
    """Say which version of a model serves, and add it to ``serving``."""
    from vigie.registry.version import choose

    versions = service.list_versions(name)
    if not versions:
        raise _NeitherError(f"none (`vigie train FILE --model {name}` trains one).")
    serves = choose(versions, name)
    serving.append(serves)
    plural, newest, number = "" if len(versions) == 1 else "s", versions[0].version, serves.version
    count = f"{len(versions)} version{plural}, the newest is {newest}"
    if serves.stage == "Production":
        # One that has been in Production was replaced for a reason.
        newer = [
            version
            for version in versions
            if version.version > number
            and version.stage != "Archived"
            and version.promoted_ms is None
        ]
        advice = _advice(service, serves, newer)
        return f"{count}; version {number} is in Production and serves.{advice}"
    which = "the newest" if number == newest else f"version {number}"
    advice = f" (`vigie models promote {name} {number}` promotes it)"
    if serves.promoted_ms is not None:
        advice = ", although it has been in Production and was replaced"
    return f"{count}; none is in Production, so {which} serves{advice}."


def _advice(service: MLflowService, serves: Version, newer: Sequence[Version]) -> str:
    """Name a newer version, unless readings of the one that serves lack some of its sensors."""
    from vigie.cli.replaced import sensors_of

    known = set(sensors_of(service, serves))
    sensors = {version.version: set(sensors_of(service, version)) for version in newer}
    fit = [number for number, columns in sensors.items() if columns and columns <= known]
    if fit:
        return f" `vigie models promote {serves.name} {fit[0]}` takes a newer one."
    others = [str(number) for number, columns in sensors.items() if known and columns - known]
    if not others:
        return ""
    verb = "is newer, but has" if len(others) == 1 else "are newer, but have"
    return f" {', '.join(others)} {verb} other sensors."


def _artifacts(service: MLflowService, version: Version) -> str:
    return f"yes, {service.open_version(version).n_features} features."
