"""The URL of a source: its parts, the variables in it, and what of it stays secret."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from vigie.errors import InvalidDataError

logger = logging.getLogger(__name__)

_REFERENCE = re.compile(r"\$\{(\w+)\}")
_SECRET_NAME = re.compile(r"passw|pwd|token|secret|key|signature|credential|^sig$|^p$", re.I)
"""Names of variables and of URL parameters whose values are no one else's business."""
HIDDEN = "***"


def is_reference(text: str) -> bool:
    """Return whether a text is one ``${NAME}``, and nothing else."""
    return _REFERENCE.fullmatch(text) is not None


def named_in(text: str) -> list[str]:
    """Return the variables that a text names as ``${NAME}``."""
    return _REFERENCE.findall(text)


@dataclass(frozen=True)
class Address:
    """The URL of a source.

    Attributes
    ----------
    scheme : str
        In lower case, such as ``prometheus+http``.
    host : str
        With the port, if one is given; empty for a local database.
    path : str
        With its leading slash, percent-encoded.
    query : str
        What stands after the question mark, as it stands there.
    username, password, token : str or None
        Of the URL, or else of ``VIGIE_SOURCE_USERNAME``, ``_PASSWORD`` and ``_TOKEN``.
    is_visible : bool
        Whether a secret was written into the URL itself.
    """

    scheme: str
    host: str
    path: str
    query: str = field(default="", repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    is_visible: bool = False
    _secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """Return the address that a URL stands for.

        Raises
        ------
        InvalidDataError
            If it is no URL, or names a variable that is not set.
        """
        whole, values = _expanded(url)
        given, visible = _secrets_of(whole), _secrets_of(url)
        parts = urlsplit(whole)
        userinfo, _, host = parts.netloc.rpartition("@")
        name, _, word = userinfo.partition(":")
        username = unquote(name) or os.environ.get("VIGIE_SOURCE_USERNAME")
        password = unquote(word) or os.environ.get("VIGIE_SOURCE_PASSWORD")
        token = os.environ.get("VIGIE_SOURCE_TOKEN")
        secrets = {*given, *values, *(one for one in (password, token) if one)}
        return cls(
            parts.scheme,
            host,
            parts.path,
            parts.query,
            username or None,
            password or None,
            token or None,
            any(not _REFERENCE.search(one) for one in visible),
            tuple(sorted({*secrets, *map(unquote, secrets), *map(quote, secrets)}, key=len)[::-1]),
        )

    @property
    def parameters(self) -> Mapping[str, str]:
        """The parameters after the question mark."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def shown(self) -> str:
        """The URL without user, password and parameters."""
        return f"{self.scheme}://{self.host}{self.path}"

    def cleaned(self, text: str, longest: int = 300) -> str:
        """Return what someone else's software said, on one line and without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = " ".join(text.split())
        return text if len(text) <= longest else f"{text[:longest]}…"

    def warn_if_visible(self) -> None:
        """Say so if there is a password where other users of the machine can see it."""
        if self.is_visible:
            logger.warning(
                "The address holds a password, which other users of this machine can see as long "
                "as the command runs. Write '${NAME}' in its place, in single quotes, or set "
                "VIGIE_SOURCE_PASSWORD."
            )


def _expanded(url: str) -> tuple[str, list[str]]:
    """Return a URL with the values of its variables, and those values that are secret."""
    secrets = []

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise InvalidDataError(
                f"The environment variable {name} is not set.",
                field="SOURCE",
                remedy=f"export {name}=…",
            )
        if _SECRET_NAME.search(name) and os.environ[name]:
            secrets.append(os.environ[name])
        # One that is the whole URL is a URL; another may hold characters that end a part of it.
        return os.environ[name] if is_reference(url) else quote(os.environ[name], safe="")

    return _REFERENCE.sub(value, url), [] if is_reference(url) else secrets


def _secrets_of(url: str) -> list[str]:
    """Return the password and the secret parameters of a URL, as they stand in it.

    Raises
    ------
    InvalidDataError
        If it is no URL, or its password is cut off by a character that ends a part of it; the
        message does not repeat it, for nothing tells where the password would be.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port if not _REFERENCE.search(parts.netloc) else None
    except ValueError:
        raise _no_url() from None
    userinfo, _, _ = parts.netloc.rpartition("@")
    # Other parts of a file's address may hold an @, and a database's do not.
    may_be_cut = userinfo or (":" in parts.netloc and parts.scheme not in ("http", "https"))
    if may_be_cut and "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise _no_url()
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    named = [value for name, value in parameters if value and _SECRET_NAME.search(name)]
    word = userinfo.partition(":")[2]
    return [word, *named] if word else named


def _no_url() -> InvalidDataError:
    return InvalidDataError(
        "This is not a URL.",
        field="SOURCE",
        remedy="In a user or a password, write @ as %40, / as %2F, : as %3A, # as %23 and ? as "
        "%3F; or set VIGIE_SOURCE_USERNAME and VIGIE_SOURCE_PASSWORD.",
    )
