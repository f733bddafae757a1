"""HTTP: logins, timeouts, and what went wrong in plain words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vigie.errors import InvalidDataError
from vigie.tables.sources.addresses import Address

if TYPE_CHECKING:
    import httpx

CONNECT_S = 10.0
ANSWER_S = 120.0
"""Timeout until the next part of an answer, in seconds: a server computes for some time."""
LOGIN = "Set VIGIE_SOURCE_USERNAME and VIGIE_SOURCE_PASSWORD, or VIGIE_SOURCE_TOKEN."


@contextmanager
def client(address: Address, token_as: str = "Bearer") -> Iterator[httpx.Client]:
    """Talk to the host of an address.

    Parameters
    ----------
    address : Address
        Of the source; ``prometheus+http`` stands for http.
    token_as : str
        The word before a token.

    Yields
    ------
    Client
        With the login.

    Raises
    ------
    InvalidDataError
        If the host cannot be reached, or does not answer in time, during the block.
    """
    import httpx

    login = None
    headers = {"User-Agent": "vigie"}
    if address.username is not None:
        login = httpx.BasicAuth(address.username, address.password or "")
    elif address.token is not None:
        headers["Authorization"] = f"{token_as} {address.token}"
    timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    try:
        with (
            _quiet(address),
            httpx.Client(auth=login, headers=headers, timeout=timeout) as opened,
        ):
            yield opened
    except httpx.TimeoutException as error:
        if isinstance(error, httpx.ConnectTimeout):
            raise _unreachable(address, f"no connection within {CONNECT_S:.0f} s") from None
        raise InvalidDataError(
            f"{address.shown} has not answered for {ANSWER_S:.0f} s.",
            field="SOURCE",
            remedy="Ask for a shorter period, or for fewer columns.",
        ) from None
    except (httpx.RequestError, httpx.InvalidURL) as error:
        said = address.cleaned(str(error)) or type(error).__name__
        raise _unreachable(address, said) from None


def address_of(address: Address, path: str = "") -> str:
    """Return the address of a resource: without login, below the path of the source."""
    scheme = address.scheme.rpartition("+")[2]
    base = address.path.rstrip("/") if path else address.path
    return f"{scheme}://{address.host}{base}{path}"


def lines(response: httpx.Response) -> Iterator[str]:
    """Yield the lines of an answer as it comes.

    ``Response.iter_lines`` would end them at characters too that JSON and CSV have within text.
    """
    rest = b""
    for part in response.iter_bytes():
        *whole, rest = (rest + part).split(b"\n")
        yield from (line.decode(errors="replace").removesuffix("\r") for line in whole)
    if rest:
        yield rest.decode(errors="replace")


@contextmanager
def _quiet(address: Address) -> Iterator[None]:
    """Keep httpx from logging addresses with a secret, as it does at the level INFO."""

    def is_harmless(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return address.cleaned(message, len(message)) == " ".join(message.split())

    logger = logging.getLogger("httpx")
    logger.addFilter(is_harmless)
    try:
        yield
    finally:
        logger.removeFilter(is_harmless)


def _unreachable(address: Address, said: str) -> InvalidDataError:
    return InvalidDataError(
        f"{address.shown} cannot be reached: {said.rstrip('.')}.",
        field="SOURCE",
        remedy="Start it, or correct the address.",
    )


def refusal(address: Address, status: int, said: str = "") -> InvalidDataError:
    """Return the error for an answer with an HTTP status other than 2xx.

    Parameters
    ----------
    address : Address
        Of the source.
    status : int
        The HTTP status.
    said : str
        The server's reason, if it gives one.
    """
    if status in (401, 403):
        said = f": {said}" if said else ""
        return InvalidDataError(
            f"{address.shown} refused the login ({status}){said}.", field="SOURCE", remedy=LOGIN
        )
    if said and 400 <= status < 500:
        return InvalidDataError(
            f"The server refused the query: {said}.", field="--query", remedy="Correct the query."
        )
    return InvalidDataError(
        f"{address.shown} answered {status}{f': {said}' if said else ''}.",
        field="SOURCE",
        remedy="Correct the address." if status < 500 else "See the server's log.",
    )
