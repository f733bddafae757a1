"""API keys: their form, their scopes, and what is stored of one.

A key is ``vigie_<id>_<secret>``. The id is public: it names the key in lists and logs, and finds it
in the database. The secret has 192 random bits, and only its SHA-256 is stored. A slow hash, as for
passwords, would protect guessable secrets; of 192 random bits nobody guesses one, however fast the
hash, and a slow one would be paid with every request.

References
----------
OWASP, Application Security Verification Standard 4.0.3, 2.6.2: a random secret of 112 bits or more
needs no salt. Password Storage Cheat Sheet: slow hashes are for passwords, which people choose.
NIST SP 800-63B, 5.1.2.2: secrets of at least 112 bits are hashed with an approved one-way function.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

ID_BYTES, SECRET_BYTES = 6, 24
ID = re.compile(rf"[0-9a-f]{{{2 * ID_BYTES}}}")
FORM = re.compile(rf"vigie_(?P<id>{ID.pattern})_(?P<secret>[0-9a-f]{{{2 * SECRET_BYTES}}})")
SECRET = re.compile(rf"(vigie_{ID.pattern}_)[0-9A-Za-z]+")


class Scope(StrEnum):
    """What a key may do; ``OPERATE`` and ``TRAIN`` include ``READ``, and ``ADMIN`` all others."""

    READ = "read"
    DETECT = "detect"
    OPERATE = "operate"
    """Acknowledge and shelve alarms, and take assets out of service."""
    TRAIN = "train"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored, without its secret.

    Attributes
    ----------
    id, name : str
        Public; a name belongs to one key that is not revoked.
    digest : str
        SHA-256 of the secret, in hexadecimal.
    scopes : frozenset of Scope
        What it may do.
    created : datetime
        In UTC, as all times here.
    used : datetime or None
        When a request last came with it, to the minute; None if never.
    expires, revoked : datetime or None
        From when on it is refused.
    """

    id: str
    name: str
    digest: str
    scopes: frozenset[Scope]
    created: datetime
    used: datetime | None = None
    expires: datetime | None = None
    revoked: datetime | None = None

    def allows(self, scope: Scope) -> bool:
        """Return whether the key has a scope."""
        reads = scope is Scope.READ and not self.scopes.isdisjoint((Scope.OPERATE, Scope.TRAIN))
        return scope in self.scopes or reads or Scope.ADMIN in self.scopes

    def belongs_to(self, secret: str) -> bool:
        """Return whether this is the key's secret, in a time that does not depend on it."""
        return hmac.compare_digest(_digest(secret), self.digest)

    def is_active(self, now: datetime) -> bool:
        """Return whether the key is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)


def new_key(
    name: str, scopes: Iterable[Scope], expires: datetime | None = None
) -> tuple[ApiKey, str]:
    """Return a new key, and the text that its holder sends; the text is not stored."""
    number, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
    key = ApiKey(
        number, name, _digest(secret), frozenset(scopes), datetime.now(UTC), expires=expires
    )
    return key, f"vigie_{number}_{secret}"


def parsed(text: str) -> tuple[str, str] | None:
    """Return the id and the secret of a key; None if the text is no key."""
    match = FORM.fullmatch(text)
    return (match["id"], match["secret"]) if match else None


def hidden(text: str) -> str:
    """Return a text with the secret of each key masked."""
    return SECRET.sub(r"\1***", text) if "vigie_" in text else text


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
