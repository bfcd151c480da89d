"""The only file with tolerances: what each operator promises, in units in the last place (ulp).

An element's allowance is  (constant + per_gap · D) ulp  of its scale, with D the largest |β (x − m)| of its row: the
exponent's rounding grows with its size, whatever the formula. Scales:

    value       |expected|, for log-sum-exp-like ones max(|peak|, |expected|)
    x           the largest |cotangent| of the row: entries of both signs cancel, rows never do
    beta        Σ_j |t_bar_j (x_j − m)|, the sum without its cancellation
    others      |expected|

Half precision computes in float32, so its allowance is half an ulp of its own, and one for what follows the rounding.
Subnormal results are not promised: `ATOL` is the smallest normal number.
"""

from typing import NamedTuple

import numpy as np


class Bound(NamedTuple):
    constant: float
    per_gap: float = 0.0


# float32 and float64 on CPU, as measured over the registry and rounded up
VALUE = {
    "softmax": Bound(4, 1),
    "log_softmax": Bound(3, 1),
    "softmax_jacobian": Bound(8, 2),
    "logsumexp": Bound(1.5),
    "logmeanexp": Bound(4),
    "softmax_cross_entropy": Bound(4, 1),
    "softmax_cross_entropy_with_integer_labels": Bound(3, 1),
}
GRADIENT = {
    "x": Bound(8, 2),
    "beta": Bound(16, 4),
    "labels": Bound(4, 1),
    "b": Bound(8, 2),
}
SECOND_ORDER = Bound(64, 16)
HALF_PRECISION = 0.51  # P5: the rounded float32 result; the surplus is where float32 itself lies next to a midpoint
