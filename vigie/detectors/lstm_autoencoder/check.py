"""What the weights of a network must be before compiled code reads them."""

from __future__ import annotations

from itertools import count

from vigie.detectors.base import Arrays, Params
from vigie.detectors.checks import numbers


def check(arrays: Arrays, params: Params, n_features: int) -> None:
    """Raise unless the kernel may read these arrays; see ``Algorithm.check``."""
    for name in ("center", "scale"):
        numbers(arrays, name, n_features)
    into = n_features
    for stack in ("encoder", "decoder"):
        for layer in count():
            at = f"{stack}.{layer}."
            if layer > 0 and at + "weight_ih_l0" not in arrays:
                break
            size = len(arrays[at + "weight_hh_l0"])
            numbers(arrays, at + "weight_ih_l0", into, 4 * size)
            numbers(arrays, at + "weight_hh_l0", size, 4 * size)
            numbers(arrays, at + "bias_ih_l0", 4 * size)
            numbers(arrays, at + "bias_hh_l0", 4 * size)
            into = size
    numbers(arrays, "head.weight", into, n_features)
    for name in ("head.bias", "lowest", "highest"):
        numbers(arrays, name, n_features)
