"""Exact results: those of `tests.oracle`, in 60 digits, for rows of up to a million classes.

c classes that are equal are one class whose logit is larger by log c:

    P(z)_d = c_d p_d,   z_d = x_d + log c_d,   one z_d for the c_d classes with the same logit and label (or cotangent)
"""

from typing import NamedTuple

import numpy as np
from mpmath import mp

from experiments.benchmarks.operators import OPERATORS
from tests import oracle


class Exact(NamedTuple):
    """A number in two float64: `rest` is what rounding to `nearest` left over."""

    nearest: np.ndarray
    rest: np.ndarray


def _merged(*columns):
    """Equal entries of a row: (first of each, which one every entry is, how many there are)."""
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, of = np.unique(np.asarray(column, np.float64), return_inverse=True)
        key = key * len(values) + of
    return np.unique(key, return_index=True, return_inverse=True, return_counts=True)[1:]


def _exact_row(name, x, second):
    """[value, gradient in x] of one row; `second`: labels as a distribution, or the cotangent of a result a logit."""
    first, which, count = _merged(x, second)
    c, second = oracle.to_mpf(count), oracle.to_mpf(second[first])
    log_c = np.array([mp.log(v) for v in c], object)
    z = oracle.to_mpf(x[first]) + log_c
    if name == "softmax":
        value, gradient = oracle.softmax.exact(z) / c, oracle.softmax.exact(z, g=second)["x"]
    elif name == "log_softmax":
        value, gradient = oracle.log_softmax.exact(z) - log_c, oracle.log_softmax.exact(z, g=c * second)["x"]
    elif OPERATORS[name].labels == "none":
        value, gradient = oracle.logsumexp.exact(z), oracle.logsumexp.exact(z, g=mp.one)["x"]
        value = value - mp.log(len(x)) if name == "logmeanexp" else value
    else:
        value = oracle.softmax_cross_entropy.exact(z, c * second) + mp.fdot(c * second, log_c)
        gradient = oracle.softmax_cross_entropy.exact(z, c * second, g=mp.one)["logits"]
    results = [np.asarray(value, object), gradient / c]
    nearest = [oracle.rounded(v) for v in results]
    rest = [oracle.rounded(v - oracle.to_mpf(near)) for v, near in zip(results, nearest, strict=True)]
    return [Exact(*(a[which] if a.ndim else a for a in pair)) for pair in zip(nearest, rest, strict=True)]


def exact(name, given):
    """Quantity → its exact result."""
    labels = OPERATORS[name].labels
    second = given.distribution if labels == "distribution" else given.cotangent
    if labels == "index":
        second = np.arange(given.x.shape[1]) == given.index[:, None]
    elif OPERATORS[name].per_row and labels == "none":
        second = np.zeros(given.x.shape)
    with mp.workdps(oracle.DIGITS):
        rows = [_exact_row(name, *row) for row in zip(given.x, second, strict=True)]
    value, gradient = (Exact(*map(np.stack, zip(*column, strict=True))) for column in zip(*rows, strict=True))
    found = {"value": value, "gradient": gradient}
    return found | ({"label gradient": Exact(*(at_label(a, given) for a in gradient))} if labels == "index" else {})


def at_label(gradient, given):
    """The gradient's entries at the labels."""
    return gradient[np.arange(len(gradient)), given.index]


def with_beta(name, x, labels, beta):
    """The value of one operator of WITH_BETA."""
    second = (labels,) if OPERATORS[name].labels == "index" else ()
    return getattr(oracle, name)(x, *second, beta=float(beta))
