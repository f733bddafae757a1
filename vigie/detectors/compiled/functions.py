"""Elementary functions of float64 that the compiler can vectorise.

Library functions are calls for one number at a time. These are branch-free, so a loop over them
compiles to vector instructions. Errors are below 2 units in the last place.

References
----------
Cody, Waite. Software manual for the elementary functions. Prentice-Hall, 1980.
Moshier. Methods and programs for mathematical functions. Ellis Horwood, 1989 (``tanh``).
"""

from __future__ import annotations

import numpy as np

from vigie.detectors.compiled.compiler import helper

LOG2_E = 1.4426950408889634
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
"""ln 2 in two parts; an integer of up to 21 bits times the first one is exact."""
ROUND = 6755399441055744.0
"""1.5 * 2**52: adding it rounds a number to an integer, in the last bits of the sum."""
LOWEST, HIGHEST = -708.0, 709.0
"""Range of arguments for which the exponential is a normal number."""


@helper
def exp(x: float) -> float:
    """Return e**x, with x clipped to [-708, 709]; NaN stays NaN."""
    x = LOWEST if x < LOWEST else x
    x = HIGHEST if x > HIGHEST else x
    shifted = x * LOG2_E + ROUND
    n = shifted - ROUND
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    # Taylor series for |r| <= ln(2) / 2, where the first omitted term is 4e-18.
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    # 2**n: shift the last bits of `shifted` into the exponent.
    bits = np.float64(shifted).view(np.int64) << np.int64(52)
    return p * np.int64(bits + (np.int64(1023) << np.int64(52))).view(np.float64)


@helper
def tanh(x: float) -> float:
    """Return the hyperbolic tangent: near 0 by a rational approximation, else from e**2x."""
    size = abs(x)
    far = 1.0 - 2.0 / (exp(2.0 * size) + 1.0)
    s = x * x
    p = (-9.64399179425052238628e-1 * s - 9.92877231001918586564e1) * s - 1.61468768441708447952e3
    q = ((s + 1.12811678491632931402e2) * s + 2.23548839060100448583e3) * s
    near = x + x * s * (p / (q + 4.84406305325125486048e3))
    return near if size < 0.625 else (far if x > 0.0 else -far)
