"""``vigie models compare``: the version in Staging beside the one that serves."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vigie.cli.environment import enabled_mlflow, read_settings
from vigie.errors import InvalidDataError, VigieError
from vigie.printable import printable

if TYPE_CHECKING:
    from vigie.models.comparison import Comparison

ANSWER_S = 30.0
SET_KEY = (
    "Set VIGIE_API_KEY to a key with the scope read: `vigie keys create NAME --scope read` makes "
    "one on the service's machine."
)


def stored_comparison(name: str) -> Comparison:
    """Return the comparison that services have stored in the history's database.

    Raises
    ------
    VigieError
        If there is no such model, nothing to compare, or no history.
    """
    from vigie.history.address import history_url
    from vigie.history.store import History, file_of
    from vigie.registry import lookup
    from vigie.registry.version import choose, require_model
    from vigie.serving.challengers import nothing_to_compare
    from vigie.serving.shadow import key_of, side_of, stored

    require_model(name)
    tracking = enabled_mlflow()
    versions, settings = lookup.versions(tracking.server, name), tracking.settings
    champion = choose(versions, name)
    staged = next((version for version in versions if version.stage == "Staging"), None)
    if staged is None or staged.version == champion.version:
        raise nothing_to_compare(name, champion.version, None if staged is None else staged.version)
    ask = "Set it to that of the service, or ask the service: --server http://HOST:8084."
    if not settings.history_enabled:
        raise InvalidDataError(
            "There is no history that could have the comparison.",
            field="VIGIE_HISTORY_ENABLED",
            remedy="Set it to true, or ask the service: --server http://HOST:8084.",
        )
    url = history_url(settings)
    if (file := file_of(url)) is not None and not file.exists():
        raise InvalidDataError(
            f"There is no history at {file}.", field="VIGIE_HISTORY_URL", remedy=ask
        )
    history, sides = History(url), (side_of(champion), side_of(staged))
    try:
        tally = stored(history, key_of(name, *sides))
    finally:
        history.close()
    return tally.comparison(name, *sides, settings.contamination, stored=True)


def comparison_of(server: str, name: str) -> Comparison:
    """Return the comparison that a service answers.

    Raises
    ------
    VigieError
        If it refuses, or cannot be reached.
    """
    import httpx
    from pydantic import ValidationError

    from vigie.local import client_of
    from vigie.models.comparison import Comparison

    base = server.rstrip("/").removesuffix("/api/v1")
    try:
        with client_of(read_settings(), ANSWER_S, base) as client:
            answer = client.get(f"/api/v1/models/{quote(name, safe='')}/comparison")
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise VigieError(
            f"The service at {printable(server)} cannot be reached: {error}.",
            field="--server",
            remedy="Check the address, such as http://localhost:8084, and that `vigie serve` runs.",
        ) from error
    try:
        if answer.is_error:
            raise _refused(answer.json(), answer.status_code)
        return Comparison.model_validate_json(answer.content)
    except (ValueError, ValidationError, LookupError, TypeError) as error:
        if isinstance(error, VigieError):
            raise
        raise VigieError(
            f"No Vigie that compares versions answers there, but status {answer.status_code}.",
            field="--server",
            remedy="Check the address and the path.",
        ) from error


def _refused(problem: dict[str, Any], status: int) -> VigieError:
    needs_key = status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    remedy = SET_KEY if needs_key else problem.get("remedy")
    return VigieError(printable(str(problem["detail"])), remedy=remedy and printable(str(remedy)))
