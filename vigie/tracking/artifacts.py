"""Upload of artifacts to the store of a run."""

from __future__ import annotations

import os
from pathlib import Path

from vigie.errors import TrackingError
from vigie.registry.rest import PROXIED
from vigie.registry.server import Server


def upload(server: Server, run_id: str, folder: Path) -> None:
    """Upload the contents of a folder to the artifacts of a run, and verify the upload.

    Raises
    ------
    TrackingError
        If the store refuses a file, or confirms it but does not have it.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

    # MlflowClient.log_artifacts writes to the working directory if the run has no artifact URI.
    artifact_uri = server.call(server.client.get_run, run_id).info.artifact_uri
    store = server.call(
        get_artifact_repository,
        add_databricks_profile_info_to_artifact_uri(artifact_uri, server.uri),
        tracking_uri=server.uri,
    )
    server.call(store.log_artifacts, str(folder))
    if not artifact_uri.startswith(PROXIED):
        return
    # MLflow's client trusts any 200, but some firewalls refuse a file with that status.
    for parent, _, names in os.walk(folder):
        path = os.path.relpath(parent, folder)
        stored = server.call(store.list_artifacts, None if path == "." else path) if names else ()
        sizes = {Path(file.path).name: file.file_size for file in stored}
        for name in names:
            if sizes.get(name) != os.path.getsize(os.path.join(parent, name)):
                raise TrackingError(
                    f"The artifact store confirmed {os.path.join(path, name)}, but does not have "
                    "it.",
                    remedy="Check the proxies and firewalls in front of it.",
                )
