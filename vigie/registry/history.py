"""Which version was in which stage when, by whom and why: as tags on the versions themselves.

Each move of a version leaves a tag on it, named after its time, with the rest as JSON. So everybody
who uses the registry sees the same history, and it ends with the version. Only the newest moves
stay: tags come with every answer about a version, and the service asks for versions all the time.

Other tools write no such tags. That they have moved a version shows in its stage, which is another
than that of its last tag; who it was, and why, the registry does not know.
"""

from __future__ import annotations

import getpass
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vigie.errors import InvalidDataError
from vigie.models.moves import Action
from vigie.printable import printable
from vigie.registry.version import END_MS, HISTORY, STAGES, Version, parse_ms

KEPT, KEPT_OF_MODEL = 50, 500
"""Most moves that are kept, of a version and of all versions of a model."""
LONGEST_REASON, LONGEST_NAME = 1000, 200
LONGEST_WORDS = 2 * LONGEST_REASON
"""Of a reason with what a comparison says."""
"""Characters. Escaped as JSON they stay below 5000, the longest tag of older MLflow servers."""
CLOCKS_DIFFER_MS = 3_600_000
"""How far ahead the clock of another client may be so that a later move comes behind its moves."""


ACTIONS = {"Archived": Action.ARCHIVE, "None": Action.RESET}
"""What somebody does who moves a version to these stages."""


@dataclass(frozen=True)
class Why:
    """Who moves a version, and why; see ``Move``."""

    by: str | None = None
    reason: str | None = None
    action: Action | None = None
    """By default that of somebody who moves it to its new stage."""


NOBODY = Why()


@dataclass(frozen=True)
class Move:
    """One move of a version from a stage to another.

    Attributes
    ----------
    version : int
        Its number.
    run_id : str or None
        The run that made it.
    at_ms : int or None
        Unix time in milliseconds; None if the registry does not know it.
    from_stage : str or None
        None if it is not known.
    to_stage : str
        Where it went.
    action : Action
        What moved it.
    by : str or None
        The name of an API key, or of a user of the machine; None if it is not known.
    reason : str or None
        In their words.
    """

    version: int
    run_id: str | None
    at_ms: int | None
    from_stage: str | None
    to_stage: str
    action: Action
    by: str | None = None
    reason: str | None = None

    @property
    def words(self) -> str:
        """The move in a few words."""
        match self.action:
            case Action.ROLLBACK:
                return f"back to {self.to_stage}"
            case Action.REPLACED:
                return f"replaced in {self.from_stage}"
            case Action.UNRECORDED:
                return f"to {self.to_stage}, unrecorded"
            case Action.TRAINING:
                return f"trained for {self.to_stage}"
        return f"to {self.to_stage}"


def because(by: object = None, reason: object = None, compared: str | None = None) -> Why:
    """Return who moves a version, and why, as others said it.

    Parameters
    ----------
    by, reason : str, optional
        Who and why.
    compared : str, optional
        What a comparison with the version that serves says; it follows the reason.

    Raises
    ------
    InvalidDataError
        If that is no text, or too long.
    """
    checked = _checked(reason, "reason", LONGEST_REASON)
    if checked and compared and unicodedata.category(checked[-1])[0] != "P":
        checked += "."
    words = " ".join(filter(None, [checked, compared]))
    return Why(_checked(by, "by", LONGEST_NAME), words[:LONGEST_WORDS] or None)


def user() -> str | None:
    """Return the name of the user who runs this process; None if the machine does not know it."""
    try:
        return printable(getpass.getuser())[:LONGEST_NAME]
    except (OSError, KeyError, ImportError):
        return None


def of(versions: Iterable[Version]) -> list[Move]:
    """Return the moves of versions, newest first."""
    dated: list[tuple[float, bool, bool, Move]] = []
    for version in versions:
        latest_ms = float("inf")
        for move in reversed(moves(version)):
            # One whose time is not known came before the next one.
            is_dated, latest_ms = move.at_ms is not None, move.at_ms or latest_ms
            # Of two at once, what took the place is told before what left it.
            dated.append((latest_ms, is_dated, move.action is not Action.REPLACED, move))
    dated.sort(key=lambda one: one[:3])
    return [move for *_, move in reversed(dated)]


def moves(version: Version) -> list[Move]:
    """Return the moves of a version, oldest first; the last may be one by another tool."""
    known = _known(version)
    unrecorded = _unrecorded(version, known)
    return known if unrecorded is None else [*known, unrecorded]


def tags(version: Version, now_ms: int, stage: str, why: Why) -> dict[str, str]:
    """Return the tags that record a move of a version.

    They are two if the version was not where its last tag says: what another tool did is recorded
    now, since its time and its stage are overwritten by the move.

    Parameters
    ----------
    version : Version
        Before the move.
    now_ms : int
        Unix time in milliseconds.
    stage : str
        Where it goes.
    why : Why
        Who moves it.
    """
    times = (parse_ms(tag.removeprefix(HISTORY)) or 0 for tag, _ in version.history)
    newest = max(times, default=0)
    at_ms = max(now_ms, newest + 2) if newest < now_ms + CLOCKS_DIFFER_MS else now_ms
    new: dict[str, str] = {}
    if (foreign := _unrecorded(version, _known(version))) is not None:
        is_dated = foreign.at_ms is not None and foreign.at_ms > newest
        key = foreign.at_ms if is_dated else at_ms - 1
        new[f"{HISTORY}{key:013d}"] = _text(
            {
                "from": foreign.from_stage,
                "to": foreign.to_stage,
                "action": foreign.action,
                "undated": None if is_dated else True,
            }
        )
    new[f"{HISTORY}{at_ms:013d}"] = _text(
        {
            "from": version.stage,
            "to": stage,
            "action": why.action or ACTIONS.get(stage, Action.PROMOTE),
            "by": why.by and printable(why.by)[:LONGEST_NAME],
            "reason": why.reason,
        }
    )
    return new


def superfluous(
    versions: Sequence[Version], new: Mapping[int, Mapping[str, str]]
) -> list[tuple[int, str]]:
    """Return the oldest tags, beyond the number that is kept, as number of a version and tag.

    Parameters
    ----------
    versions : sequence of Version
        All versions of a model, before a move.
    new : mapping of int to mapping of str to str
        The tags that record it, by version.
    """
    gone: list[tuple[int, str]] = []
    kept: list[tuple[int, str]] = []
    for version in versions:
        of_it = sorted({*(tag for tag, _ in version.history), *new.get(version.version, ())})
        gone += [(version.version, tag) for tag in of_it[:-KEPT]]
        kept += [(version.version, tag) for tag in of_it[-KEPT:]]
    kept.sort(key=lambda one: one[1])
    return [*gone, *kept[:-KEPT_OF_MODEL]]


def _checked(text: object, field: str, longest: int) -> str | None:
    """Return a text without space around it; None if nothing is left."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidDataError(f"{text!r:.100} is no text.", field=field, remedy="Give text.")
    text = text.replace("\r\n", "\n").strip()
    if len(text) > longest:
        raise InvalidDataError(
            f"It has {len(text)} characters.",
            field=field,
            remedy=f"Use {longest} at most; a link can lead to more.",
        )
    for place, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t":
            raise InvalidDataError(
                f"Character {place + 1} ({printable(character)}) is no text.",
                field=field,
                remedy="Leave control characters out.",
            )
    return text or None


def _known(version: Version) -> list[Move]:
    """Return the moves of a version of which the registry has a record, oldest first."""
    parsed = (_parsed(version, tag, text) for tag, text in sorted(version.history))
    known = [move for move in parsed if move is not None]
    first = _before_records(version, known)
    return known if first is None else [first, *known]


def _before_records(version: Version, known: Sequence[Move]) -> Move | None:
    """Return the promotion by a version of Vigie that recorded nothing but its time."""
    promoted_ms = version.promoted_ms
    if not promoted_ms or len(known) >= KEPT:
        return None
    if any(move.to_stage == "Production" for move in known):
        return None
    action = Action.TRAINING if promoted_ms == version.asked_ms else Action.PROMOTE
    return Move(version.version, version.run_id, promoted_ms, None, "Production", action)


def _unrecorded(version: Version, known: Sequence[Move]) -> Move | None:
    """Return the move that has led to the present stage, if it is not the last one known."""
    last = known[-1].to_stage if known else "None"
    if version.stage == last:
        return None
    last_ms = max((move.at_ms or 0 for move in known), default=version.created_ms)
    # An alias is set without a time.
    at_ms = version.updated_ms if version.updated_ms > last_ms else None
    return Move(version.version, version.run_id, at_ms, last, version.stage, Action.UNRECORDED)


def _parsed(version: Version, tag: str, text: str) -> Move | None:
    """Return the move in a tag; None if it holds anything else, since users can edit it."""
    at_ms = parse_ms(tag.removeprefix(HISTORY))
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if at_ms is None or at_ms >= END_MS or not isinstance(told, dict):
        return None
    came, went, action = told.get("from"), told.get("to"), told.get("action")
    by, reason = told.get("by"), told.get("reason")
    if went not in STAGES or came not in (None, *STAGES) or action not in list(Action):
        return None
    if not all(word is None or isinstance(word, str) for word in (by, reason)):
        return None
    return Move(
        version.version,
        version.run_id,
        None if told.get("undated") else at_ms,
        came,
        went,
        Action(action),
        _unicode(by or "")[:LONGEST_NAME] or None,
        _unicode(reason or "")[:LONGEST_WORDS] or None,
    )


def _unicode(text: str) -> str:
    """Return a text without lone surrogates, which JSON may hold, and no answer can."""
    return text.encode(errors="replace").decode()


def _text(fields: Mapping[str, Any]) -> str:
    # Letters of any script as they are: escaped, a reason could be six times as long.
    told = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))
