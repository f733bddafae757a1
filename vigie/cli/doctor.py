"""``vigie doctor``: the guide's troubleshooting as checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from vigie.cli.environment import read_settings
from vigie.cli.terminal import out
from vigie.errors import VigieError

if TYPE_CHECKING:
    from vigie.config import Settings
    from vigie.registry.version import Version
    from vigie.services.mlflow_service import MLflowService


def doctor() -> None:
    """Check the local state and MLflow step by step, with a remedy for each failure."""
    failed = False
    for check in examine(read_settings()):
        mark = "[green]ok  [/]" if check.passed else "[red]fail[/]"
        out.print(f"{mark} {check.question} {escape(check.finding)}", highlight=False)
        if not check.passed:
            failed = True
            out.print(f"     {escape(check.remedy)}", style="yellow", highlight=False)
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Check:
    """One question, the finding, and the remedy if the check failed."""

    question: str
    passed: bool
    finding: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """Run the checks in order; skip those that depend on a failed one."""
    from vigie.detectors.catalogue import algorithms
    from vigie.registry import lookup
    from vigie.services.mlflow_service import MLflowService

    yield _state(settings)
    if not settings.mlflow_enabled:
        yield Check(
            "Tracking enabled?",
            False,
            "MLFLOW_ENABLED is false: nothing is recorded.",
            "Set MLFLOW_ENABLED=true, unless that is what you want.",
        )
        return
    yield Check("Tracking enabled?", True, "MLFLOW_ENABLED is true.")
    service = MLflowService(settings)
    yield _outbox(service)
    try:
        service.server.require()
    except VigieError as error:
        yield Check("Server answers?", False, error.message, error.remedy or "")
        return
    yield Check("Server answers?", True, service.server.masked_uri)
    yield _experiment(service)
    readable: list[Version] = []
    for name in algorithms():
        try:
            versions = service.list_versions(name)
        except VigieError as error:
            yield Check(f"Versions of {name}?", False, error.message, error.remedy or "")
            continue
        if not versions:
            yield Check(
                f"Versions of {name}?",
                False,
                "none.",
                f"Train one: `vigie train FILE --model {name}`.",
            )
            continue
        readable.append(lookup.pick(service.server, name))
        yield _stages(name, versions)
    for version in readable:
        yield _artifacts(service, version)


def _state(settings: Settings) -> Check:
    from vigie.state import require_writable

    question = "Local state writable?"
    try:
        require_writable(settings.state_dir)
    except VigieError as error:
        return Check(question, False, error.message, f"{error.field}: {error.remedy}")
    return Check(question, True, f"in {settings.state_dir.absolute()}.")


def _outbox(service: MLflowService) -> Check:
    summary = service.outbox.summary()
    passed = summary.waiting + summary.set_aside == 0
    return Check(
        "All trainings sent?",
        passed,
        "yes, the outbox is empty." if passed else f"{summary}, in {service.outbox.folder}.",
        "" if passed else "`vigie sync` sends them; `vigie sync --again` also the dead letters.",
    )


def _experiment(service: MLflowService) -> Check:
    name = service.settings.mlflow_experiment_name
    question = "Experiment exists?"
    try:
        experiment = service.server.call(service.server.client.get_experiment_by_name, name)
    except VigieError as error:
        return Check(question, False, error.message, error.remedy or "")
    if experiment is None:
        return Check(question, True, f"'{name}' does not; the first training creates it.")
    if experiment.lifecycle_stage != "active":
        return Check(
            question,
            False,
            f"'{name}' has been deleted.",
            "Restore it (`mlflow experiments restore`), or set another MLFLOW_EXPERIMENT_NAME.",
        )
    return Check(question, True, f"'{name}' (id {experiment.experiment_id}).")


def _stages(name: str, versions: list[Version]) -> Check:
    promoted = [version for version in versions if version.stage == "Production"]
    plural, newest = "" if len(versions) == 1 else "s", versions[0].version
    count = f"{len(versions)} version{plural}, the newest is {newest}"
    if promoted:
        finding = f"{count}; version {promoted[0].version} is in Production and serves."
    else:
        finding = (
            f"{count}; none is in Production, so the newest serves "
            f"(`vigie models promote {name} {newest}` promotes it)."
        )
    return Check(f"Versions of {name}?", True, finding)


def _artifacts(service: MLflowService, version: Version) -> Check:
    question = f"Artifacts of {version.name} version {version.version} readable?"
    try:
        model = service.open_version(version)
    except VigieError as error:
        return Check(question, False, error.message, error.remedy or "")
    return Check(question, True, f"yes, {model.n_features} features.")
