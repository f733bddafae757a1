"""Bodies that are nearly what the service takes: valid ones, wronged in a way that a seed decides.

What is wrong may be in the document (a key gone, twice or renamed, a value of another kind, too
large, too deep, not a number) or in its bytes (cut off, flipped, in another encoding).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from vigie import samples

ROWS = samples.healthy(50).data.tolist()
START = datetime(2026, 1, 5, 8, tzinfo=UTC)


class Raw(str):
    """JSON, or what looks like it, that is written as it stands."""


class Pairs(list[tuple[str, Any]]):
    """An object, whose keys may come more than once."""


ODD: Sequence[Any] = (
    *(None, True, False, 0, -1, 1e308, -1e308, 5e-324, 2**53 + 1, 10**30, "", " ", [], [[]]),
    *map(Raw, ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "-0", "1e-400", "0x10", "01")),
    *map(Raw, ("9" * 400, "9" * 5000, "1." + "0" * 3000 + "1", "tru", "'a'", "", "{", "]", ",")),
    *map(Raw, ('"\\ud800"', '"\\u0000"', '"\\x"', '"\n"', '"\\udc00\\ud800"', "/* */ 1")),
    *(Raw("[" * depth + "]" * depth) for depth in (10, 40, 150, 300, 5000)),
    *(Raw('{"a":' * depth + "1" + "}" * depth) for depth in (10, 40, 150, 300, 5000)),
    *("../../etc/passwd", "/dev/null", "C:\\nul", "a" * 200, "a" * 201, "a" * 10_000, "💥" * 50),
    *(
        "'; DROP TABLE readings; --",
        "%s%n",
        "{0}",
        "${jndi:ldap://a}",
        "<script>",
        "\u202e",
        "\r\n",
    ),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-13-45", "1e400", "now"),
    *("1767600000", "2026-01-05T08:00:00.000000000001Z", "2026-01-05T25:00", "-1", "NaN", "null"),
    *({}, {"": ""}, {"a": {"b": [1, {"c": None}]}}, {"features": {}}, list(range(2000))),
)
ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "utf-8-sig", "cp037")


def readings(random: Random, count: int) -> list[dict[str, Any]]:
    """Return readings as they should be, of a few machines and the next few hours."""
    found = []
    for _ in range(count):
        row = random.choice(ROWS)
        one: dict[str, Any] = {
            "asset_id": f"pump-{random.randrange(8)}",
            "features": dict(zip(samples.FEATURE_NAMES, row, strict=True)),
        }
        if random.random() < 0.5:
            moment = START + timedelta(seconds=random.randrange(20_000))
            one["timestamp"] = moment.isoformat()
        if random.random() < 0.3:
            one["sensor_id"] = random.choice(["drive end", "fan end", None])
        if random.random() < 0.3:
            one["metadata"] = {"line": "A", "tags": ["new", None], "where": {"hall": "Süd"}}
        found.append(one)
    return found


def training(random: Random) -> dict[str, Any]:
    """Return what a training is asked with."""
    count = random.choice([1, 3, 12])
    return {
        "data": ROWS[:count],
        "feature_names": list(samples.FEATURE_NAMES),
        "model_names": ["isolation_forest", "one_class_svm"],
    }


def wronged(random: Random, document: Any) -> bytes:
    """Return the bytes of a document with one thing wrong, or a few."""
    document = _loose(document)
    for _ in range(random.choice([0, 1, 1, 1, 2, 5])):
        document = _changed(random, document)
    data = _written(document).encode("utf-8", "surrogatepass")
    return _garbled(random, data) if random.random() < 0.3 else data


def _loose(value: Any) -> Any:
    if isinstance(value, dict):
        return Pairs((key, _loose(item)) for key, item in value.items())
    return [_loose(item) for item in value] if isinstance(value, list) else value


def _written(value: Any) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{_written(item)}" for key, item in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _holders(value: Any) -> Iterator[list[Any]]:
    """Yield everything in a document that holds something."""
    if isinstance(value, list) and value:
        yield value
        for item in value:
            yield from _holders(item[1] if isinstance(value, Pairs) else item)


def _changed(random: Random, document: Any) -> Any:
    """Return a document with one value or one key changed."""
    holders = list(_holders(document))
    if not holders or random.random() < 0.03:
        return random.choice([_loose(random.choice(ODD)), [document], Pairs([("body", document)])])
    holder = random.choice(holders)
    at = random.randrange(len(holder))
    odd = _loose(random.choice(ODD))
    keyed = isinstance(holder, Pairs)
    match random.choice(["gone", "odd", "odd", "odd", "twice", "renamed", "more", "many"]):
        case "gone":
            del holder[at]
        case "odd":
            holder[at] = (holder[at][0], odd) if keyed else odd
        case "twice":
            holder.insert(random.randrange(len(holder) + 1), holder[at])
        case "renamed" if keyed:
            names = [name for name in ODD if isinstance(name, str) and not isinstance(name, Raw)]
            holder[at] = (random.choice(names), holder[at][1])
        case "many":
            text = Raw(_written(odd))
            count = random.choice([3, 1100]) if len(text) < 100 else 3
            holder += [(f"{n}", text) if keyed else text for n in range(count)]
        case _:
            holder.append((f"more {at}", odd) if keyed else odd)
    return document


def _garbled(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    match random.choice(["cut", "flipped", "inserted", "encoded", "empty", "doubled", "padded"]):
        case "cut":
            return data[:at]
        case "flipped":
            return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
        case "inserted":
            return data[:at] + random.randbytes(random.randrange(1, 5)) + data[at:]
        case "encoded":
            text = data.decode("utf-8", "replace")
            return text.encode(random.choice(ENCODINGS), "replace")
        case "empty":
            return random.choice([b"", b" ", b"\x00", b"null", b'""'])
        case "doubled":
            return data + data
        case _:
            return b" \r\n\t" * 2000 + data
