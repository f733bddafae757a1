"""``python -m vigie.detectors.compiled``: compile every kernel into numba's cache."""

from vigie.detectors.catalogue import warm_up

warm_up(to_fit=True)
