"""The only file with tolerances: what each operator promises, in units of roundoff u (half an ulp of 1).

An element may be off by  (constant + per_gap · D) u  of its scale. D, in the units of the exponent, is what makes a
correct exp lose digits: |β (x_j − m)| for the element's own weight, and for sums over a row the mean of it over the
classes beside the peak, weighted as the sum weighs them. It counts once where β is a power of two, so that only the
difference rounds, and twice where the product rounds as well.

Scales: a value its own size, and for log-sum-exp-like values its two terms, the peak and what is added to it. A
cotangent of the logits the largest of its row, or of the terms that cancel in it. A cotangent of β the sum of the sizes
of its terms. Half precision computes in float32: half an ulp of its own on top, and nothing else. Subnormal numbers are
not promised: they may be 0.
"""

from typing import NamedTuple

import ml_dtypes
import numpy as np

from tests.oracle import FORMATS


class Bound(NamedTuple):
    constant: float
    per_gap: float = 0.0


VALUE = {
    "softmax": Bound(8, 1),
    "log_softmax": Bound(4, 1),
    "softmax_jacobian": Bound(16, 2),
    "logsumexp": Bound(4, 1),
    "logmeanexp": Bound(6, 1),
    "entropy": Bound(8, 2),
    "softmax_cross_entropy": Bound(6, 1),
    "softmax_cross_entropy_with_integer_labels": Bound(4, 1),
}
COTANGENT = {
    "x": Bound(12, 2),
    "beta": Bound(24, 4),
    "labels": Bound(5, 1),
    "b": Bound(12, 2),
}
TORTURE = Bound(8)  # 4 ulp, whatever the gap
MERGE = Bound(8, 0)
SECOND_ORDER = Bound(256, 16)  # of the result: the terms that cancel in it are not followed
LARGEST = float(np.finfo(np.float32).max)
# of the largest: a gradient made by products of numbers that were rounded to the dtype
HALF_PRODUCTS = {"bfloat16": Bound(2.0**18), "float16": Bound(2.0**15)}
SLOPES = Bound(2.0**28)  # of float64 numbers with steps of 1e-6 to 1e-5: 3e-8 of the largest
DIFFERENCE_QUOTIENT = 1e-6  # of float64 numbers with step 1e-4: its own error is 1e-8 of them
REORDERED = 6  # ulp between two orders of the classes, as far as jax.nn.softmax under jit is from itself
ROW_SUM, ROW_SUM_BFLOAT16 = 4 * 2.0**-24, 2.0**-8  # T26
ROUNDOFF = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}


def ulp(size, dtype):
    """Unit in the last place of `dtype` at `size`, not below that of the smallest normal number."""
    bits, low = FORMATS[np.dtype(dtype).name]
    size = np.where(np.isfinite(size), size, 0.0)
    exponent = np.where(size == 0, low, np.frexp(size)[1] - 1)
    return np.ldexp(1.0, np.maximum(exponent, low) - bits)


MARGINS: dict[str, float] = {}  # the largest error that was seen of each kind, in units of its bound


def merge_margins(seen):
    for kind, used in seen.items():
        MARGINS[kind] = max(MARGINS.get(kind, 0.0), used)


def _note(what, used):
    merge_margins({what.split(" on ")[0]: float(np.max(used, initial=0.0))})


def allowance(expected, dtype, bound: Bound, *, scale=0.0, gap=0.0, floor=1.0):
    """How far each result may be from `expected`; `floor`: how many smallest normal numbers may underflow."""
    computing = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    size = np.maximum(np.abs(expected), scale)
    size = np.where(np.isfinite(size), size, 0.0)
    allowed = (bound.constant + bound.per_gap * np.minimum(gap, 1e3)) * ROUNDOFF[computing] * size
    allowed = allowed + floor * float(ml_dtypes.finfo(computing).tiny)
    return allowed if computing == dtype else allowed + 0.5 * ulp(expected, dtype)


def check(actual, expected, dtype, bound: Bound, what: str, *, scale=0.0, gap=0.0, floor=1.0):
    """Assert that `actual`, of `dtype`, is `expected` within its allowance; name the worst element if not."""
    assert actual.dtype == dtype, f"{what}: dtype {actual.dtype}, wanted {dtype}"
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, wanted {expected.shape}"
    actual = np.asarray(actual).astype(np.float64)
    largest = float(ml_dtypes.finfo(dtype).max)
    with np.errstate(invalid="ignore", over="ignore"):
        allowed = allowance(expected, dtype, bound, scale=scale, gap=gap, floor=floor)
        rounded = np.where(np.abs(expected) > largest, np.copysign(np.inf, expected), expected)
        good = (np.abs(actual - expected) <= allowed) | (actual == rounded) | (np.isnan(actual) & np.isnan(expected))
        used = np.abs(actual - expected) / np.where(allowed > 0, allowed, 1)
        _note(what, np.where((actual == rounded) | ~np.isfinite(used), 0.0, used))
        error = np.where(good, 0.0, np.abs(actual - expected) / allowed)
    if good.all():
        return
    worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), good.shape)
    raise AssertionError(
        f"{what}: {np.count_nonzero(~good)} of {good.size} beyond their bound; worst at {tuple(map(int, worst))}: "
        f"got {actual[worst]!r}, wanted {expected[worst]!r}, {error[worst]:.3g} times the allowance"
    )
