"""Errors in units in the last place, and the bounds of the contract that they are compared with."""

import numpy as np

from experiments.benchmarks.operators import OPERATORS
from tests.oracle import FORMATS
from tests.tolerance import ulp

HALF = ("bfloat16", "float16")
COLUMNS = ("operator", "quantity", "input", "dtype", "function", "mode", "max", "median", "of_bound", "actual", "exact")
OUTCOMES = ("operator", "function", "mode", "configurations", "not finite", "off by 1 %", "outside the contract")


def scale(name, quantity, nearest, x):
    """What an error is compared with: the result; for a log-sum-exp also the peak; for a gradient its row's largest."""
    size = np.abs(nearest)
    if quantity == "gradient":
        return np.broadcast_to(size.max(-1, keepdims=True), size.shape)
    return np.maximum(size, np.abs(x.max(-1))) if name in ("logsumexp", "logmeanexp") and quantity == "value" else size


def mean_gap(gap):
    """D: the mean of the gaps of the classes beside the peak, weighted by exp(−gap); 0 if all classes are the peak."""
    nearest = np.min(gap, -1, keepdims=True, initial=np.inf, where=gap > 0)
    weight = np.where(gap > 0, np.exp(-np.maximum(gap - nearest, 0)), 0)
    return (weight * gap).sum(-1) / np.maximum(weight.sum(-1), 1)


def allowed(name, quantity, nearest, x, dtype, roundings=1):
    """The largest error that the contract allows, or None where it says nothing; `x` times β.

    u is half an ulp of 1. float32, float64: log-softmax, cross-entropy, label gradient (4 + D) u of the result,
    log-sum-exp as much of its scale; softmax (8 + its own gap) u. Half precision: 0.51 ulp, for it is the rounded
    float32 result, except the losses, which stay float32 and have its bounds. A gap counts `roundings` times: twice if
    β rounds it.
    """
    size, loss = scale(name, quantity, nearest, x), quantity == "value" and OPERATORS[name].labels != "none"
    if dtype in HALF and not loss:
        return 0.51 * ulp(size, dtype)
    u = 2.0 ** -(FORMATS["float32" if dtype in HALF else dtype][0] + 1)
    gap = roundings * (x.max(-1, keepdims=True) - x)
    if (name, quantity) == ("softmax", "value"):
        return (8 + gap) * u * size
    if (name, quantity) == ("log_softmax", "value"):
        return (4 + mean_gap(gap)[..., None]) * u * size
    if loss or quantity == "label gradient" or (name, quantity) == ("logsumexp", "value"):
        return (4 + mean_gap(gap)) * u * size
    return None


def promised(size, dtype):
    """Which results are 0 or large enough: nothing is promised where float32 (float64) is subnormal."""
    return (size == 0) | (size >= 2.0 ** FORMATS["float32" if dtype in HALF else dtype][1])


def compare(name, quantity, actual, expected, x, dtype):
    """The last five of COLUMNS: errors in ulp, the share of the bound (None: no bound) and the worst element.

    None if nothing is promised about any element.
    """
    x, actual = x.astype(np.float64), actual.astype(np.float64)
    size = scale(name, quantity, expected.nearest, x)
    kept = promised(size, dtype)
    if not kept.any():
        return None
    with np.errstate(invalid="ignore"):
        error = np.where(np.isfinite(actual), np.abs((actual - expected.nearest) - expected.rest), np.inf)
    ulps = np.where(kept, error / ulp(size, dtype), -1.0)
    worst = np.unravel_index(np.argmax(ulps), ulps.shape)
    bound = allowed(name, quantity, expected.nearest, x, dtype)
    share = None if bound is None else _digits(_share(error, np.broadcast_to(bound, error.shape), kept))
    seen = "nan" if np.isnan(actual[worst]) else actual[worst]
    return _digits(ulps[worst]), _digits(np.median(ulps[kept])), share, seen, expected.nearest[worst]


def _share(error, bound, kept):
    error, bound = error[kept], bound[kept]
    return np.max(np.divide(error, bound, where=bound > 0, out=np.where(error > 0, np.inf, 0.0)))


def _digits(v):
    return float(f"{v:.6g}")


def outcome(name, actual, expected, x, beta):
    """(not finite, finite but off by more than 1 %, outside the contract) of a float32 value with inverse temperature.

    1 % of the result, and of 1 for a probability.
    """
    x = x.astype(np.float64)
    size = scale(name, "value", expected, x)
    kept, lost = promised(size, "float32"), not np.isfinite(actual).all()
    error = np.where(np.isfinite(actual), np.abs(actual - expected), np.inf)
    rows = x if name == "logsumexp" else float(beta) * x
    bound = allowed(name, "value", expected, rows, "float32", roundings=2)
    off = error > 0.01 * (1.0 if name == "softmax" else size)
    return lost, not lost and bool(np.any(off & kept)), bool(np.any((error > bound) & kept))
