"""The registry over MLflow's REST API, without MLflow's client; see ``registry.http``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vigie.registry import client
from vigie.registry.server import Server
from vigie.registry.version import Run, Version, by_names, by_run_ids

MOST_AT_ONCE = "1000"
MOST_PAGES = 100
ALIAS = "registered-models/alias"
PROXIED, OF_A_RUN = "mlflow-artifacts:", "runs:/"


class RestRegistry:
    """See ``vigie.registry.lookup.Registry``."""

    def __init__(self, server: Server):
        self._server = server

    def versions_and_aliases(self, name: str) -> tuple[list[Version], dict[str, int]]:
        items: list[dict[str, Any]] = []
        page: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            query = {"filter": f"name='{name}'", "max_results": MOST_AT_ONCE, **page}
            answer = self._server.get("model-versions/search", **query)
            items += answer.get("model_versions", [])
            if not (token := answer.get("next_page_token")):
                break
            page = {"page_token": str(token)}
        else:
            raise ValueError(f"it has more than {MOST_PAGES} pages of versions")
        model = self._server.get("registered-models/get", name=name)["registered_model"]
        versions = [
            Version.from_registry(
                name,
                item["version"],
                item.get("current_stage"),
                item.get("run_id"),
                item.get("creation_timestamp"),
                {tag["key"]: tag.get("value", "") for tag in item.get("tags", [])},
                item.get("last_updated_timestamp"),
            )
            for item in items
        ]
        return versions, {item["alias"]: int(item["version"]) for item in model.get("aliases", [])}

    def summary(self, names: Sequence[str]) -> object:
        query = {"filter": by_names(names), "max_results": MOST_AT_ONCE}
        return self._server.get("registered-models/search", **query)

    def run_metrics(self, run_id: str) -> tuple[str | None, dict[str, float]]:
        run = self._server.get("runs/get", run_id=run_id)["run"]
        metrics = {item["key"]: float(item["value"]) for item in run["data"].get("metrics", [])}
        name = run["info"].get("run_name")
        return None if name is None else str(name), metrics

    def run_params(self, run_id: str) -> dict[str, str]:
        run = self._server.get("runs/get", run_id=run_id)["run"]
        return {item["key"]: str(item["value"]) for item in run["data"].get("params", [])}

    def runs(self, run_ids: Sequence[str]) -> list[Run]:
        ids = [item["experiment_id"] for item in self._pages("experiments", view_type="ALL")]
        wanted = {"experiment_ids": ids, "filter": by_run_ids(run_ids), "run_view_type": "ALL"}
        return [
            Run(
                str(item["info"]["run_id"]),
                str(item["info"]["experiment_id"]),
                str(item["info"].get("run_name") or "") or None,
                {str(one["key"]): float(one["value"]) for one in item["data"].get("metrics", [])},
                {str(one["key"]): str(one["value"]) for one in item["data"].get("params", [])},
            )
            for item in self._pages("runs", **wanted)
        ]

    def _pages(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Return all experiments, or all runs, that a search finds."""
        items: list[dict[str, Any]] = []
        for _ in range(MOST_PAGES):
            answer = self._server.send("POST", f"{kind}/search", max_results=1000, **fields)
            items += answer.get(kind, [])
            if not (token := answer.get("next_page_token")):
                return items
            fields["page_token"] = str(token)
        raise ValueError(f"it has more than {MOST_PAGES} pages of {kind}")

    def tags(self, name: str) -> dict[str, str]:
        model = self._server.get("registered-models/get", name=name)["registered_model"]
        return {tag["key"]: str(tag.get("value", "")) for tag in model.get("tags", [])}

    def set_tag(self, name: str, version: int | None, key: str, value: str) -> None:
        self._server.send("POST", **_tagged(name, version, "set-tag"), key=key, value=value)

    def delete_tag(self, name: str, version: int | None, key: str) -> None:
        self._server.send("DELETE", **_tagged(name, version, "delete-tag"), key=key)

    def set_stage(self, name: str, version: int, stage: str) -> None:
        endpoint, number = "model-versions/transition-stage", str(version)
        moved = self._server.send(
            "POST",
            endpoint,
            name=name,
            version=number,
            stage=stage,
            archive_existing_versions=False,
        )
        if str(moved["model_version"]["version"]) != number:
            raise ValueError("it has moved another version")

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self._server.send("POST", ALIAS, name=name, alias=alias, version=str(version))

    def delete_alias(self, name: str, alias: str) -> None:
        self._server.send("DELETE", ALIAS, name=name, alias=alias)

    def artifact_uri(self, version: Version) -> str:
        endpoint, number = "model-versions/get-download-uri", str(version.version)
        return str(self._server.get(endpoint, name=version.name, version=number)["artifact_uri"])

    def fetch(self, uri: str, files: Sequence[str], target: Path) -> Path:
        resolved = self._resolved(uri)
        path = resolved.removeprefix(PROXIED)
        if path == resolved or path.startswith("//"):
            # Only MLflow's client can read other stores (S3, a share, a folder).
            return client.download_in_subprocess(self._server, uri, target)
        for file in files:
            self._server.download(f"{path}/{file}", target / file)
        return target

    def _resolved(self, uri: str) -> str:
        """Return the store's URI of an artifact, given a ``runs:/`` URI or one of the store."""
        if not uri.startswith(OF_A_RUN):
            return uri
        run_id, _, path = uri.removeprefix(OF_A_RUN).partition("/")
        run = self._server.get("runs/get", run_id=run_id)["run"]
        return f"{run['info']['artifact_uri']}/{path}"


def _tagged(name: str, version: int | None, act: str) -> dict[str, str]:
    """Return the endpoint for a tag of a version, or of the model, and what names it."""
    if version is None:
        return {"endpoint": f"registered-models/{act}", "name": name}
    return {"endpoint": f"model-versions/{act}", "name": name, "version": str(version)}
