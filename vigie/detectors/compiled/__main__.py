"""``python -m vigie.detectors.compiled``: compile every kernel now, so that no process has to."""

from vigie.detectors.catalogue import warm_up

warm_up(to_fit=True)
