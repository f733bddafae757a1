"""The files of settings: ``vigie.toml``, with its lines, and what is wrong with a file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vigie.errors import SettingsFileError

ENCODING = "utf-8-sig"
"""Some editors begin a file with a byte order mark; it is no part of the first name."""
PREFIX = "vigie_"


class SettingsFile:
    """A TOML file of settings, by their names in lower case without ``VIGIE_``.

    Attributes
    ----------
    path : Path
        Absolute.
    values : dict
        What it sets, as TOML has it.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    SettingsFileError
        If it cannot be read, or is no TOML.
    """

    def __init__(self, path: Path):
        self.path = path.absolute()
        try:
            self._text = path.read_bytes().decode(ENCODING)
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(path, error) from error
        try:
            self.values: dict[str, Any] = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsFileError(
                f"{self.path} is no TOML: {error}.",
                remedy='Write `name = value` on each line, with texts in quotes: host = "0.0.0.0".',
            ) from error

    def line(self, name: str) -> int | None:
        """Return the line, from 1, on which a name of ``values`` is set."""
        quoted = rf"(?:{re.escape(name)}|\"{re.escape(name)}\"|'{re.escape(name)}')"
        found = re.search(rf"(?m)^[ \t]*\[{{0,2}}[ \t]*{quoted}[ \t]*[=.\]]", self._text)
        return self._text.count("\n", 0, found.start()) + 1 if found else None

    def place(self, name: str) -> str:
        """Return where a name of ``values`` is set, in words."""
        line = self.line(name)
        return f"{self.path}, line {line}" if line else str(self.path)

    def require(self, known: Collection[str]) -> None:
        """Check that each name is one of those that are known.

        Raises
        ------
        SettingsFileError
            If one is not; with its line, and the nearest that is.
        """
        for name in self.values:
            if name not in known:
                plain = name.lower().removeprefix(PREFIX)
                near = [plain] if plain in known else get_close_matches(plain, known, n=1)
                raise SettingsFileError(
                    f"{self.place(name)}: {name} is no setting.",
                    remedy=(f"Did you mean {near[0]}? " if near else "")
                    + "Settings stand at the top level, by their names in lower case without "
                    "VIGIE_; `vigie config show` lists them.",
                )


def unreadable(path: Path, error: OSError | UnicodeDecodeError) -> SettingsFileError:
    """Return what is wrong with a file of settings that cannot be read."""
    path = path.absolute()
    if isinstance(error, OSError):
        return SettingsFileError(
            f"{path} cannot be read ({error.strerror}).",
            remedy="Allow Vigie to read it, or move it away.",
        )
    content = path.read_bytes()
    try:
        content.decode(ENCODING)
    except UnicodeDecodeError as found:
        error = found
    line = content.count(b"\n", 0, error.start) + 1
    return SettingsFileError(
        f"{path} is not in UTF-8: see line {line} (byte 0x{content[error.start]:02X}).",
        remedy="Save it as UTF-8, or write that line without accents and other special characters.",
    )
