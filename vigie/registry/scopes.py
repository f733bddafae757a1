"""What models answer for, and how files and registered models are named after it."""

from __future__ import annotations

import hashlib
import re

EVERYTHING = ""
"""The widest scope: its models answer for every asset. Any other scope is the name of an asset."""
SCOPE = "vigie.scope"
"""Tag of runs and versions whose models answer for one asset: its name."""
MARK = "--"
"""Between an algorithm and a scope in the name of a registered model."""
LONGEST = 60
"""Characters of an asset's name that go into other names."""


def slug(asset: str) -> str:
    """Return a name for files and registered models; assets of different names have others.

    A name that cannot be used as it is gets a hash behind what is left of it.
    """
    usable = re.sub(r"[^0-9A-Za-z._-]+", "_", asset).lstrip(".-")[:LONGEST]
    if usable and usable == asset:
        return asset
    return f"{usable or 'asset'}-{hashlib.sha256(asset.encode()).hexdigest()[:8]}"


def registered_name(algorithm: str, scope: str) -> str:
    """Return the registered name of an algorithm's models that answer for a scope."""
    return algorithm if scope == EVERYTHING else f"{algorithm}{MARK}{slug(scope)}"
