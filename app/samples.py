"""Hands on ``vigie.samples``."""

from vigie.samples import FAULTS, FEATURE_NAMES, SENSORS, Recording, Sensor, faulty, healthy

__all__ = ["FAULTS", "FEATURE_NAMES", "SENSORS", "Recording", "Sensor", "faulty", "healthy"]
