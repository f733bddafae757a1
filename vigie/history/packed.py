"""Readings as the bytes that the history stores: a hundred for eight sensors.

The values come first, as little-endian float64, in the order of the layout's names; then ``HEAD``;
the final score, if it is not one minus the p-value; ``calm`` as a varint; and what few readings
have: when a change began, for how long sensors have held their values, and the rest as JSON. What
is no number has a NaN of its own in its place. Every float is returned bit by bit.

The form is that of revision 0006. To change it, migrate.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from hashlib import sha256
from math import isnan, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vigie.history.records import Assessed, Reading, Standing, Stored, microseconds, time_of
from vigie.models.anomaly_data import AssetState, CriticalityLevel

HEAD = "BBddq"
"""After the values: flags, the place of the state in ``STATES``, p-value, usual surprise, and since
when the state lasts, in microseconds since 1970."""
NUMBER, MOMENT = struct.Struct("<d"), struct.Struct("<q")
HAS_SCORE, HAS_BEGAN, HAS_HELD, HAS_MORE = 1, 2, 4, 8
NUMBERS = frozenset((float, int))
STATES = (
    None,
    AssetState.NORMAL,
    AssetState.WATCH,
    AssetState.BAD_DATA,
    AssetState.DRIFT,
    AssetState.UNKNOWN_OPERATING_POINT,
    AssetState.ALARM,
    AssetState.UNKNOWN,
)
LARGE = 0x80
"""From here on, a number takes more than one byte."""
NEVER_US = -(2**63)
NONE, TRUE, FALSE, WORD = (0x7FF8_5649_4749_4500 + kind for kind in range(4))
"""The bits of the NaNs that stand for values that are no numbers; no computation yields them."""
OTHERS = {NONE: None, TRUE: True, FALSE: False}

NORMAL, UNGRADED = 0, 1
LEVELS = (None, None, *CriticalityLevel)
"""By level: that of a reading that is no anomaly, of an anomaly without a criticality, from before
0006, and of each criticality."""
LEVEL_OF = {criticality: level for level, criticality in enumerate(LEVELS) if level > UNGRADED}
MOST_LAYOUTS = 1000
"""Layouts that a process remembers."""


@dataclass(frozen=True)
class Layout:
    """What many readings have in common.

    Attributes
    ----------
    features, context : tuple of str
        The names of the values, in the order in which they came first.
    models : tuple of (str, int or None)
        The models that answered, each with its version in the registry.
    """

    features: tuple[str, ...]
    context: tuple[str, ...] = ()
    models: tuple[tuple[str, int | None], ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the values."""
        return self.features + self.context

    @cached_property
    def conditions(self) -> frozenset[str]:
        """The names of the context."""
        return frozenset(self.context)

    @cached_property
    def versions(self) -> Mapping[str, int | None]:
        """The models, each with its version."""
        return dict(self.models)

    @cached_property
    def form(self) -> struct.Struct:
        """The form of the values and of what follows each of them."""
        return struct.Struct(f"<{len(self.names)}d{HEAD}")

    @cached_property
    def text(self) -> str:
        """Its JSON."""
        return _json([self.features, self.context, self.models])

    @cached_property
    def digest(self) -> str:
        """A SHA-256 in hexadecimal, the same for any order of the names.

        Some senders give them in another order each time.
        """
        in_order = _json([sorted(part) for part in (self.features, self.context, self.models)])
        return sha256(in_order.encode()).hexdigest()


def layout_of(reading: Reading) -> Layout:
    """Return the layout of a reading."""
    context, models = reading.context, reading.assessed.versions
    return _layout(tuple(reading.features), context, tuple(models.items()))


@lru_cache(MOST_LAYOUTS)
def _layout(
    names: tuple[str, ...], context: frozenset[str], models: tuple[tuple[str, int | None], ...]
) -> Layout:
    features = tuple(name for name in names if name not in context)
    return Layout(features, tuple(name for name in names if name in context), models)


def layout_from(text: str) -> Layout:
    """Return the layout of a JSON text."""
    features, context, models = json.loads(text)
    return Layout(tuple(features), tuple(context), tuple(map(tuple, models)))


def level_of(assessed: Assessed) -> int:
    """Return the level of a result; see ``LEVELS``."""
    if not assessed.is_anomaly:
        return NORMAL
    return UNGRADED if assessed.criticality is None else LEVEL_OF[assessed.criticality]


def pack(layout: Layout, features: Mapping[str, Stored], assessed: Assessed) -> bytes:
    """Return the bytes of a reading, except for what its layout and its level say."""
    flags, more = 0, dict[str, Any]()
    score = began = held = rest = b""
    final_score, p_value = assessed.final_score, assessed.p_value
    if final_score != (None if p_value is None else 1.0 - p_value):
        flags, score = HAS_SCORE, NUMBER.pack(nan if final_score is None else final_score)
    if assessed.began is not None:
        flags, began = flags | HAS_BEGAN, MOMENT.pack(_us(assessed.began))
    if assessed.held:
        counts, others = _counts(layout, assessed.held)
        if counts:
            flags, held = flags | HAS_HELD, counts
        if others:
            more["held"] = others
    if assessed.shift_us:
        more["shift_us"] = assessed.shift_us
    if (went_on := assessed.went_on_from) is not None:
        more["went_on_from"] = [
            went_on.state, went_on.since, went_on.began, went_on.calm, went_on.usual
        ]  # fmt: skip
    values = [features[name] for name in layout.names]
    others_as_bits = b""
    if not set(map(type, values)) <= NUMBERS:
        others_as_bits, words = _as_bits(values)
        values = [0.0] * len(values)
        if words:
            more["words"] = words
    if more:
        flags, rest = flags | HAS_MORE, json.dumps(more, ensure_ascii=False).encode()
    numbers = layout.form.pack(
        *values,
        flags,
        STATES.index(assessed.state),
        nan if p_value is None else p_value,
        assessed.usual,
        NEVER_US if assessed.since is None else _us(assessed.since),
    )
    if others_as_bits:
        numbers = others_as_bits + numbers[len(others_as_bits) :]
    return b"".join((numbers, score, _varint(assessed.calm), began, held, rest))


def unpack(layout: Layout, level: int, packed: bytes) -> tuple[dict[str, Stored], Assessed]:
    """Return the values and the result of a reading."""
    *numbers, flags, state, p_value, usual, since = layout.form.unpack_from(packed)
    place, final_score = layout.form.size, 1.0 - p_value
    if flags & HAS_SCORE:
        [final_score] = NUMBER.unpack_from(packed, place)
        place += NUMBER.size
    calm, place = packed[place], place + 1
    if calm >= LARGE:
        calm, place = _from_varint(packed, place - 1)
    began, went_on_from, shift_us = None, None, 0
    held: dict[str, int] = {}
    words: Sequence[str] = ()
    if flags:
        if flags & HAS_BEGAN:
            began = _iso(MOMENT.unpack_from(packed, place)[0])
            place += MOMENT.size
        if flags & HAS_HELD:
            for name in layout.names:
                count, place = _from_varint(packed, place)
                if count > 1:
                    held[name] = count
        if flags & HAS_MORE:
            more = json.loads(packed[place:])
            held |= more.get("held", {})
            words, shift_us = more.get("words", ()), more.get("shift_us", 0)
            if went_on := more.get("went_on_from"):
                went_on_from = Standing(went_on[0] and AssetState(went_on[0]), *went_on[1:])
    # A NaN differs from itself, and makes the sum one.
    values: list[Stored] = numbers
    if (total := sum(numbers)) != total:
        _put_others(values, packed, words)
    assessed = Assessed(
        None if isnan(final_score) else final_score,
        level > NORMAL,
        None if isnan(p_value) else p_value,
        STATES[state],
        None if since == NEVER_US else _iso(since),
        began,
        calm,
        usual,
        held,
        shift_us,
        went_on_from,
        LEVELS[level],
        layout.versions,
    )
    return dict(zip(layout.names, values)), assessed  # noqa: B905


def numbers_of(layout: Layout, packed: Sequence[bytes]) -> NDArray[np.float64]:
    """Return the values of readings and their final scores, NaN where there is no number.

    Parameters
    ----------
    layout : Layout
        Of all of them.
    packed : sequence of bytes
        The readings.

    Returns
    -------
    ndarray of shape (n, n_names + 1)
    """
    n_names, form = len(layout.names), layout.form
    heads = np.array([form.unpack_from(one)[: n_names + 3] for one in packed])
    scores = 1.0 - heads[:, -1]
    for place in np.flatnonzero(heads[:, n_names].astype(np.intp) & HAS_SCORE).tolist():
        [scores[place]] = NUMBER.unpack_from(packed[place], form.size)
    return np.column_stack([heads[:, :n_names], scores])


def _as_bits(values: Sequence[Stored]) -> tuple[bytes, list[str]]:
    """Return values that are not all numbers as bytes, and the words among them."""
    numbers, words = bytearray(), list[str]()
    for value in values:
        if isinstance(value, str):
            words.append(value)
            numbers += WORD.to_bytes(8, "little")
        elif value is None or isinstance(value, bool):
            kind = NONE if value is None else TRUE if value else FALSE
            numbers += kind.to_bytes(8, "little")
        else:
            numbers += struct.pack("<d", value)
    return bytes(numbers), words


def _put_others(values: list[Stored], packed: bytes, words: Sequence[str]) -> None:
    """Replace each NaN that stands for something else by what it stands for."""
    left = iter(words)
    for place, bits in enumerate(struct.unpack_from(f"<{len(values)}Q", packed)):
        if bits == WORD:
            values[place] = next(left)
        elif bits in OTHERS:
            values[place] = OTHERS[bits]


def _counts(layout: Layout, held: Mapping[str, int]) -> tuple[bytes, dict[str, int]]:
    """Return a varint for each of the names, if one of them is held; and counts of other names."""
    named = [held.get(name, 1) for name in layout.names]
    n_named = sum(count > 1 for count in named)
    others: dict[str, int] = {}
    if n_named < len(held):
        known = frozenset(layout.names)
        others = {name: n for name, n in held.items() if name not in known or n < 1}
    return (b"".join(map(_varint, named)) if n_named else b""), others


def _varint(number: int) -> bytes:
    """Return a number of at least 0 in LEB128: seven bits a byte, the lowest first."""
    if number < LARGE:
        return _BYTES[number]
    encoded = bytearray()
    while number >= LARGE:
        encoded.append(number & 0x7F | LARGE)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_BYTES = [bytes([number]) for number in range(LARGE)]


def _from_varint(packed: bytes, place: int) -> tuple[int, int]:
    """Return a number in LEB128, and the place after it."""
    byte = packed[place]
    if byte < LARGE:
        return byte, place + 1
    number = shift = 0
    while byte >= LARGE:
        number |= (byte & 0x7F) << shift
        shift, place = shift + 7, place + 1
        byte = packed[place]
    return number | byte << shift, place + 1


# Consecutive readings mostly have the same state.
@lru_cache(MOST_LAYOUTS)
def _us(moment: str) -> int:
    return microseconds(datetime.fromisoformat(moment).replace(tzinfo=UTC))


@lru_cache(MOST_LAYOUTS)
def _iso(us: int) -> str:
    return time_of(us).replace(tzinfo=None).isoformat(timespec="microseconds")


def _json(described: Any) -> str:
    return json.dumps(described, ensure_ascii=False, separators=(",", ":"))
