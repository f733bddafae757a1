"""Commands that name misspelt settings, and whose help shows no type after a flag."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

LISTS_THEM = "doctor"
"""The command that lists misspelt settings itself."""


class Command(TyperCommand):
    """A command, which first names settings that nothing reads."""

    def invoke(self, ctx: Any) -> Any:
        if self.name != LISTS_THEM:
            _name_unknown_variables(ctx.params.values())
        return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = _in_plain_words(error.message)
            raise

    def get_params(self, ctx: Any) -> Any:
        return _without_types_of_flags(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> Any:
        return _without_types_of_flags(super().get_params(ctx))


def _name_unknown_variables(given: Iterable[Any]) -> None:
    prefixes = ("VIGIE_", "MLFLOW_")
    if Path(".env").exists() or any(name.upper().startswith(prefixes) for name in os.environ):
        from vigie.tables.sources.addresses import named_in
        from vigie.training.variables import name_unknown_variables

        name_unknown_variables(named_in(" ".join(map(str, given))))


def _in_plain_words(message: str) -> str:
    """Return what is wrong with a value without the name of a type of error, and what is near."""
    message = message.removeprefix("Value error, ")
    if match := re.match(r"'(.*?)' is not one of (.*)\.$", message, re.S):
        near = get_close_matches(match[1].lower(), re.findall(r"'(.*?)'", match[2]), n=1)
        return f"{message} Did you mean {near[0]!r}?" if near else message
    return message


def _without_types_of_flags(params: Iterable[Any]) -> list[Any]:
    found = list(params)
    for param in found:
        if getattr(param, "is_bool_flag", False):
            param.metavar = ""
    return found
