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
    """Check the way from here to MLflow step by step, with the remedy for what fails."""
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
    """One question, its answer, and the remedy where the answer is bad."""

    question: str
    passed: bool
    finding: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """Check the way to MLflow in its order; what depends on a failed check is not asked."""
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
            found = service.list_versions(name)
        except VigieError as error:
            yield Check(f"Versions of {name}?", False, error.message, error.remedy or "")
            continue
        if not found:
            yield Check(
                f"Versions of {name}?",
                False,
                "none.",
                f"Train one: `vigie train FILE --model {name}`.",
            )
            continue
        readable.append(lookup.pick(service.server, name))
        yield _stages(name, found)
    for version in readable:
        yield _artifacts(service, version)


def _state(settings: Settings) -> Check:
    from vigie.state import require_writable

    question = "Local state kept?"
    try:
        require_writable(settings.state_dir)
    except VigieError as error:
        return Check(question, False, error.message, f"{error.field}: {error.remedy}")
    return Check(question, True, f"in {settings.state_dir.absolute()}.")


def _outbox(service: MLflowService) -> Check:
    kept = service.outbox.summary()
    passed = kept.waiting + kept.set_aside == 0
    return Check(
        "All trainings sent?",
        passed,
        "yes, the outbox is empty." if passed else f"{kept}, in {service.outbox.folder}.",
        "" if passed else "`vigie sync` sends them, `vigie sync --again` those set aside too.",
    )


def _experiment(service: MLflowService) -> Check:
    name = service.settings.mlflow_experiment_name
    question = "Experiment there?"
    try:
        found = service.server.call(service.server.client.get_experiment_by_name, name)
    except VigieError as error:
        return Check(question, False, error.message, error.remedy or "")
    if found is None:
        return Check(question, True, f"'{name}' is not; the first training makes it.")
    if found.lifecycle_stage != "active":
        return Check(
            question,
            False,
            f"'{name}' has been deleted.",
            "Restore it (`mlflow experiments restore`), or set another MLFLOW_EXPERIMENT_NAME.",
        )
    return Check(question, True, f"'{name}' (id {found.experiment_id}).")


def _stages(name: str, found: list[Version]) -> Check:
    promoted = [version for version in found if version.stage == "Production"]
    newest = (
        f"{len(found)} version{'' if len(found) == 1 else 's'}, the newest is {found[0].version}"
    )
    if promoted:
        finding = f"{newest}; version {promoted[0].version} is in Production and serves."
    else:
        finding = (
            f"{newest}; none is in Production, so the newest serves "
            f"(`vigie models promote {name} {found[0].version}` makes that a decision)."
        )
    return Check(f"Versions of {name}?", True, finding)


def _artifacts(service: MLflowService, version: Version) -> Check:
    question = f"Artifacts of {version.name} version {version.version} readable?"
    try:
        model = service.open_version(version)
    except VigieError as error:
        return Check(question, False, error.message, error.remedy or "")
    return Check(question, True, f"yes, {model.n_features} features.")
