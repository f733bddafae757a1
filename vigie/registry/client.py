"""The registry by MLflow's own client, which knows every store and every way to sign in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vigie.errors import TrackingError
from vigie.registry.server import Server
from vigie.registry.version import Version

ENDS_WITHIN_S = 300.0


class ClientRegistry:
    """See ``vigie.registry.lookup.Registry``."""

    def __init__(self, server: Server):
        self._server = server

    def listed(self, name: str) -> tuple[list[Version], dict[str, int]]:
        client = self._server.client
        found = self._server.call(client.search_model_versions, f"name='{name}'")
        model = self._server.call(client.get_registered_model, name)
        listed = [
            Version.recorded(
                name,
                item.version,
                item.current_stage,
                item.run_id,
                item.creation_timestamp,
                item.tags,
                item.last_updated_timestamp,
            )
            for item in found
        ]
        return listed, {alias: int(number) for alias, number in (model.aliases or {}).items()}

    def measured(self, run_id: str) -> tuple[str | None, dict[str, float]]:
        run = self._server.call(self._server.client.get_run, run_id)
        return run.info.run_name, dict(run.data.metrics)

    def artifacts_of(self, version: Version) -> str:
        find = self._server.client.get_model_version_download_uri
        return str(self._server.call(find, version.name, str(version.version)))

    def fetch(self, uri: str, files: Sequence[str], target: Path) -> Path:
        return download(self._server, uri, target)


def download(server: Server, uri: str, target: Path) -> Path:
    """Fetch artifacts into a folder, and return where they lie there."""
    from mlflow.artifacts import download_artifacts

    return Path(
        server.call(
            download_artifacts, artifact_uri=uri, dst_path=str(target), tracking_uri=server.uri
        )
    )


def download_in_subprocess(server: Server, uri: str, target: Path) -> Path:
    """Fetch artifacts by a process of its own, so that this one need not hold MLflow's client."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vigie.registry.client", uri, str(target)],
            # In the environment, since everybody can read a command line, and it may hold a
            # password.
            env={**os.environ, "MLFLOW_TRACKING_URI": server.uri},
            capture_output=True,
            text=True,
            check=False,
            timeout=ENDS_WITHIN_S,
        )
    except subprocess.TimeoutExpired as error:
        raise TrackingError(f"no end after {ENDS_WITHIN_S:.0f} s") from error
    last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1:]
    if done.returncode == 0 and last:
        return Path(last[0])
    raise TrackingError(last[0] if last else f"status {done.returncode}")


def _main() -> None:
    uri, target = sys.argv[1:]
    try:
        where = download(Server(os.environ["MLFLOW_TRACKING_URI"]), uri, Path(target))
    except TrackingError as error:
        sys.exit(error.message)
    sys.stdout.write(f"{where}\n")


if __name__ == "__main__":
    _main()
