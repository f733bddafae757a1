"""``vigie models compare``: the version in Staging beside the one that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vigie.cli.environment import enabled_mlflow, read_settings
from vigie.cli.train_remote import as_of_the_command
from vigie.errors import InvalidDataError, VigieError
from vigie.keys import Scope

if TYPE_CHECKING:
    from vigie.models.comparison import Comparison


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
    from vigie.registry.version import choose, in_stage, require_model
    from vigie.serving.challengers import nothing_to_compare
    from vigie.serving.shadow import key_of, side_of, stored

    require_model(name)
    tracking = enabled_mlflow()
    versions, settings = lookup.versions(tracking.server, name), tracking.settings
    champion = choose(versions, name)
    staged = in_stage(versions, "Staging")
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
        tally = stored(history, key_of(settings, name, *sides))
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
    from vigie.client import Client

    settings = read_settings()
    try:
        with Client(server, verify=settings.tls_cert or True) as client:
            return client.comparison(name)
    except VigieError as error:
        raise as_of_the_command(error, Scope.READ) from error
