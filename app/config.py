"""Hands on ``vigie.config``."""

from vigie.config import Settings

__all__ = ["Settings"]
