"""A machine whose sensors follow its load, and jump with it."""

from __future__ import annotations

import numpy as np
import pandas as pd

SENSORS = ("power", "flow", "pressure", "temperature", "current", "vibration")
PER_LOAD = np.array([40.0, -25.0, 8.0, 30.0, 15.0, 2.0])
AT_REST = np.array([10.0, 60.0, 4.0, 40.0, 5.0, 1.0])
NOISE = np.array([1.0, 1.0, 0.3, 1.0, 0.5, 0.1])


def loads(n: int, seed: int, among: tuple[float, ...] = ()) -> np.ndarray:
    """Return a load for each row, kept for a while; any from 0.3 to 0.9, or some ``among``."""
    rng = np.random.default_rng(seed)
    found: list[float] = []
    while len(found) < n:
        load = rng.choice(among) if among else rng.uniform(0.3, 0.9)
        found += [float(load)] * int(rng.integers(20, 60))
    return np.array(found[:n])


def machine(load: np.ndarray, seed: int) -> pd.DataFrame:
    """Return what the sensors read at these loads, which also make them noisier."""
    rng = np.random.default_rng(seed + 1000)
    noise = rng.normal(size=(len(load), len(SENSORS))) + rng.normal(size=(len(load), 1))
    values = AT_REST + PER_LOAD * load[:, None] + (0.3 + load[:, None]) * NOISE * noise
    return pd.DataFrame(values, columns=list(SENSORS))


def recording(n: int, seed: int, among: tuple[float, ...] = ()) -> pd.DataFrame:
    """Return rows with the load as their last column."""
    load = loads(n, seed, among)
    return machine(load, seed).assign(load=load)
