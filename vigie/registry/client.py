"""The registry through MLflow's client, which supports every store and every authentication."""

from __future__ import annotations

import os
import resource
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vigie.child import Child, Parent
from vigie.detectors.trained import MOST_BYTES
from vigie.errors import TrackingError
from vigie.registry.server import Server
from vigie.registry.version import Run, Version, by_names, by_run_ids

DOWNLOAD_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Download:
    """What to download, and where to; the server's URI may hold a password."""

    server_uri: str = field(repr=False)
    uri: str
    target: Path


class ClientRegistry:
    """See ``vigie.registry.lookup.Registry``."""

    def __init__(self, server: Server):
        self._server = server

    def versions_and_aliases(self, name: str) -> tuple[list[Version], dict[str, int]]:
        client = self._server.client
        items = self._server.call(client.search_model_versions, f"name='{name}'")
        model = self._server.call(client.get_registered_model, name)
        versions = [
            Version.from_registry(
                name,
                item.version,
                item.current_stage,
                item.run_id,
                item.creation_timestamp,
                item.tags,
                item.last_updated_timestamp,
            )
            for item in items
        ]
        return versions, {alias: int(number) for alias, number in (model.aliases or {}).items()}

    def summary(self, names: Sequence[str]) -> object:
        models = self._server.call(self._server.client.search_registered_models, by_names(names))
        return list(models)

    def run_metrics(self, run_id: str) -> tuple[str | None, dict[str, float]]:
        run = self._server.call(self._server.client.get_run, run_id)
        return run.info.run_name, dict(run.data.metrics)

    def run_params(self, run_id: str) -> dict[str, str]:
        run = self._server.call(self._server.client.get_run, run_id)
        return dict(run.data.params)

    def runs(self, run_ids: Sequence[str]) -> list[Run]:
        from mlflow.entities import ViewType

        client, call = self._server.client, self._server.call
        every = call(client.search_experiments, view_type=ViewType.ALL)
        ids = [experiment.experiment_id for experiment in every]
        found = call(client.search_runs, ids, by_run_ids(run_ids), ViewType.ALL, len(run_ids))
        return [
            Run(
                run.info.run_id,
                run.info.experiment_id,
                run.info.run_name,
                dict(run.data.metrics),
                dict(run.data.params),
            )
            for run in found
        ]

    def tags(self, name: str) -> dict[str, str]:
        return dict(self._server.call(self._server.client.get_registered_model, name).tags)

    def set_tag(self, name: str, version: int | None, key: str, value: str) -> None:
        client, call = self._server.client, self._server.call
        if version is None:
            call(client.set_registered_model_tag, name, key, value)
        else:
            call(client.set_model_version_tag, name, str(version), key, value)

    def delete_tag(self, name: str, version: int | None, key: str) -> None:
        client, call = self._server.client, self._server.call
        if version is None:
            call(client.delete_registered_model_tag, name, key)
        else:
            call(client.delete_model_version_tag, name, str(version), key)

    def set_stage(self, name: str, version: int, stage: str) -> None:
        client = self._server.client
        with warnings.catch_warnings():
            # MLflow deprecates stages in favour of aliases, but the guide uses them; we set both.
            warnings.simplefilter("ignore", FutureWarning)
            self._server.call(
                client.transition_model_version_stage,
                name,
                str(version),
                stage,
                archive_existing_versions=False,
            )

    def set_alias(self, name: str, alias: str, version: int) -> None:
        client = self._server.client
        self._server.call(client.set_registered_model_alias, name, alias, str(version))

    def delete_alias(self, name: str, alias: str) -> None:
        self._server.call(self._server.client.delete_registered_model_alias, name, alias)

    def artifact_uri(self, version: Version) -> str:
        get_uri = self._server.client.get_model_version_download_uri
        return str(self._server.call(get_uri, version.name, str(version.version)))

    def fetch(self, uri: str, files: Sequence[str], target: Path) -> Path:
        return download(self._server, uri, target)


def download(server: Server, uri: str, target: Path) -> Path:
    """Download artifacts into a folder, and return their path in it."""
    from mlflow.artifacts import download_artifacts

    return Path(
        server.call(
            download_artifacts, artifact_uri=uri, dst_path=str(target), tracking_uri=server.uri
        )
    )


def download_in_subprocess(server: Server, uri: str, target: Path) -> Path:
    """Download artifacts in a child process, so that this one need not import MLflow's client."""
    from vigie.registry.bounds import ended_by_interrupt

    try:
        with Child(run_download) as child, ended_by_interrupt(child.kill):
            child.send(Download(server.uri, uri, target))
            path: Path | None = child.receive(DOWNLOAD_TIMEOUT_S)
            if path is None:
                raise TrackingError(f"The download process {child.describe_exit()}")
    except TimeoutError as error:
        raise TrackingError(f"the download timed out after {DOWNLOAD_TIMEOUT_S:.0f} s") from error
    return path


def run_download(parent: Parent, request: Download) -> None:
    """Download artifacts, and send their path; runs in the child process."""
    parent.on_stop(lambda: os._exit(1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, MOST_BYTES))
    # Standard error is the service's log, where a progress bar is noise.
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    parent.send(download(Server(request.server_uri), request.uri, request.target))
