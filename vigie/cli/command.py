"""Commands that name misspelt settings, and whose help shows no type after a flag."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

LISTS_THEM = "doctor"
"""The command that lists misspelt settings itself."""


class Command(TyperCommand):
    """A command, which first names settings that nothing reads."""

    def invoke(self, ctx: Any) -> Any:
        if self.name != LISTS_THEM:
            _name_unknown_variables(ctx.params.values())
        return super().invoke(ctx)

    def get_params(self, ctx: Any) -> Any:
        return _without_types_of_flags(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> Any:
        return _without_types_of_flags(super().get_params(ctx))


def _name_unknown_variables(given: Iterable[Any]) -> None:
    if Path(".env").exists() or any(name.upper().startswith("VIGIE_") for name in os.environ):
        from vigie.tables.sources.addresses import named_in
        from vigie.training.variables import name_unknown_variables

        name_unknown_variables(named_in(" ".join(map(str, given))))


def _without_types_of_flags(params: Iterable[Any]) -> list[Any]:
    found = list(params)
    for param in found:
        if getattr(param, "is_bool_flag", False):
            param.metavar = ""
    return found
