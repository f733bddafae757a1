"""Files of a run, put into whatever store holds them."""

from __future__ import annotations

import os
from pathlib import Path

from vigie.errors import TrackingError
from vigie.registry.rest import PROXIED
from vigie.registry.server import Server


def upload(server: Server, run_id: str, folder: Path) -> None:
    """Put all that is in a folder among the artifacts of a run.

    Raises
    ------
    TrackingError
        If the store does not take it, or does not have it although it has said so.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

    # Not by the client, to which a run without an address is one in the working directory.
    where = server.call(server.client.get_run, run_id).info.artifact_uri
    store = server.call(
        get_artifact_repository,
        add_databricks_profile_info_to_artifact_uri(where, server.uri),
        tracking_uri=server.uri,
    )
    server.call(store.log_artifacts, str(folder))
    if not where.startswith(PROXIED):
        return
    # MLflow's client believes any 200, with which some firewalls too refuse a file.
    for parent, _, names in os.walk(folder):
        path = os.path.relpath(parent, folder)
        there = server.call(store.list_artifacts, None if path == "." else path) if names else ()
        listed = {Path(one.path).name: one.file_size for one in there}
        for name in names:
            if listed.get(name) != os.path.getsize(os.path.join(parent, name)):
                raise TrackingError(
                    f"The artifact store has not taken {os.path.join(path, name)}, although it has "
                    "said so.",
                    remedy="Look at the proxies and firewalls before it.",
                )
