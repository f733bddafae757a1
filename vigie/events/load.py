"""The load of alarms: how many, and how many of no use.

References
----------
ANSI/ISA-18.2, 16. Monitoring and assessment: standing, chattering and fleeting alarms, floods.
EEMUA publication 191, 6. Performance of alarm systems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from vigie.alarm_rules import LoadLimits
from vigie.history.records import time_of
from vigie.models.alarms import AlarmLoad, AssetLoad, Flood

MOST_ASSETS = 100
DAY_US = 86_400_000_000


class Raised(Protocol):
    """When an alarm was raised and cleared; see ``vigie.history.alarms.Raised``."""

    @property
    def asset_id(self) -> str: ...
    @property
    def sensor_id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def raised_us(self) -> int: ...
    @property
    def cleared_us(self) -> int | None: ...


def load_of(
    alarms: Iterable[Raised], first_us: int, last_us: int, n_assets: int, limits: LoadLimits
) -> AlarmLoad:
    """Return the load of alarms in a time.

    Parameters
    ----------
    alarms : iterable of Raised
        Those that were active in it, the first to be raised first.
    first_us, last_us : int
        The time, in microseconds since 1970.
    n_assets : int
        Assets that sent readings in it.
    limits : LoadLimits
        What counts as what.
    """
    known = list(alarms)
    new = [alarm for alarm in known if alarm.raised_us >= first_us]
    days = (last_us - first_us) / DAY_US
    standing = Counter(
        alarm.asset_id for alarm in known if _lasted_s(alarm, last_us) > limits.standing_s
    )
    fleeting = Counter(
        alarm.asset_id
        for alarm in new
        if alarm.cleared_us is not None and _lasted_s(alarm, last_us) < limits.fleeting_s
    )
    chattering = _chattering(new, limits)
    floods = _floods([alarm.raised_us for alarm in new], limits)
    counts = Counter(alarm.asset_id for alarm in new)
    counts.update(dict.fromkeys(standing, 0))
    flooded_us = sum(last - first for first, last, _ in floods)
    return AlarmLoad(
        start=time_of(first_us),
        end=time_of(last_us),
        days=days,
        alarms=len(new),
        per_asset_and_day=len(new) / n_assets / days if n_assets and days else None,
        n_assets=n_assets,
        standing=standing.total(),
        fleeting=fleeting.total(),
        chattering=chattering.total(),
        in_flood=flooded_us / (last_us - first_us) if last_us > first_us else 0.0,
        floods=[
            Flood(start=time_of(first), end=time_of(last), alarms=n) for first, last, n in floods
        ],
        assets=[
            AssetLoad(
                asset_id=asset,
                alarms=n,
                per_day=n / days if days else 0.0,
                standing=standing[asset],
                fleeting=fleeting[asset],
                chattering=chattering[asset],
            )
            for asset, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ][:MOST_ASSETS],
    )


def _lasted_s(alarm: Raised, now_us: int) -> float:
    end = now_us if alarm.cleared_us is None else min(alarm.cleared_us, now_us)
    return (end - alarm.raised_us) / 1e6


def _chattering(alarms: Sequence[Raised], limits: LoadLimits) -> Counter[str]:
    """Return by asset how many alarms were part of a burst of one kind."""
    by_source: dict[tuple[str, str, str], list[int]] = {}
    for alarm in alarms:
        source = alarm.asset_id, alarm.sensor_id, alarm.kind
        by_source.setdefault(source, []).append(alarm.raised_us)
    found = Counter[str]()
    for (asset, *_), times in by_source.items():
        bursts = _bursts(times, limits.chattering, limits.chattering_s)
        if bursts:
            found[asset] += sum(n for _, _, n in bursts)
    return found


def _floods(times: Sequence[int], limits: LoadLimits) -> list[tuple[int, int, int]]:
    return _bursts(times, limits.flood, limits.flood_s)


def _bursts(times: Sequence[int], n: int, within_s: float) -> list[tuple[int, int, int]]:
    """Return the first and last time of each burst, and how many times are in it.

    Parameters
    ----------
    times : sequence of int
        In microseconds, ascending.
    n : int
        So many within ``within_s`` seconds are a burst; bursts that share a time are one.
    """
    places: list[tuple[int, int]] = []
    for last in range(n - 1, len(times)):
        first = last - n + 1
        if times[last] - times[first] > within_s * 1e6:
            continue
        if places and places[-1][1] >= first:
            places[-1] = places[-1][0], last
        else:
            places.append((first, last))
    return [(times[first], times[last], last - first + 1) for first, last in places]
