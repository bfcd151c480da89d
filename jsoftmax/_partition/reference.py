"""The log-partition function in plain jnp: the definition, on every platform until a measurement says otherwise.

    live    entries that are not masked and not −∞
    m       peak: the largest live x, the smallest if β < 0; taken on the raw x, for β x may overflow or round apart
    t_j  =  β (x_j − m)                                  ≤ 0, exactly 0 at the peak                       (1)
    s    =  Σ_{x_j ≠ m} exp(t_j) + (#{x_j = m} − 1)      excess: Z e^{−βm} − 1, without cancellation      (2)
    p_j  =  exp(t_j) / (1 + s)                           log p_j = t_j − log1p(s)                         (3)

No live entry: m = 0, s = −1, so that log Z = β m + log1p(s) = −∞ and residuals stay finite. A live +∞ or NaN, or β NaN:
s is NaN, and with it all that is live.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from jsoftmax._core.axes import class_count
from jsoftmax._core.dtypes import widen
from jsoftmax._core.labels import at_label, is_class
from jsoftmax._core.types import Axes, Labels, Logits, Mask, Rows
from jsoftmax._partition import classes


class Statistics(NamedTuple):
    """Peak and excess of each row, size 1 along the class axes, float32 or wider."""

    peak: Rows
    excess: Rows


def live(x: Logits, where: Mask) -> Bool[Array, "*shape"]:
    present = x != -jnp.inf
    return present if where is None else present & where


def at_peak(x: Logits, where: Mask, peak: Rows) -> Bool[Array, "*shape"]:
    at_top = widen(x) == peak  # never an absent −∞: a peak is finite, +∞ or NaN
    return at_top if where is None else at_top & where


def half_gap(x: Logits, where: Mask, peak: Rows) -> Logits:
    """(x − m) / 2, which cannot overflow; 0 where absent."""
    return jnp.where(live(x, where), widen(x) * 0.5 - peak * 0.5, 0)


def finite_part(beta: Rows) -> Rows:
    """β, and 0 for ±∞, where no operator depends on it any more."""
    return jnp.where(jnp.isinf(beta), 0, beta)


def times_twice(beta: Rows, half: Rows) -> Rows:
    """β · 2 h, without doubling the larger of the two."""
    scale = jnp.where(jnp.abs(beta) < 1, 2, 1).astype(beta.dtype)
    return (beta * scale) * (half * (2 / scale))


def gap(x: Logits, beta: Rows, where: Mask, peak: Rows) -> Logits:
    """t of (1); −∞ where absent."""
    # if x − m overflows, so does β (x − m), unless |β| < 1; a power of two, which rounds nothing
    scale = jnp.where(jnp.abs(beta) < 1, 0.5, 1)
    t = (widen(x) * scale - peak * scale) * (finite_part(beta) / scale)
    # not `!=`: a NaN must stay one
    beyond = jnp.isinf(beta) & ((widen(x) < peak) | (widen(x) > peak))
    t = jnp.where(beyond, -jnp.inf, t)
    # at β > 0 an absent −∞ is one already
    present = live(x, None) | (beta > 0)
    return jnp.where(present if where is None else present & where, t, -jnp.inf)


def statistics(x: Logits, beta: Rows, where: Mask, axes: Axes) -> Statistics:
    highest = classes.largest(lambda x, w: widen(x) if w is None else jnp.where(w, widen(x), -jnp.inf), axes, x, where)
    lowest = -classes.largest(lambda x, w: jnp.where(live(x, w), -widen(x), -jnp.inf), axes, x, where)
    peak = jnp.where(highest == -jnp.inf, 0, jnp.where(beta < 0, lowest, highest))

    def beside(x, where):
        top = at_peak(x, where, peak)
        return jnp.where(top, 0, jnp.exp(gap(x, beta, where, peak))), top.astype(peak.dtype)

    below, ties = classes.total(beside, axes, x, where)
    excess = below + (ties - 1)
    poisoned = (highest == jnp.inf) | (jnp.isnan(beta) & (highest != -jnp.inf))
    return Statistics(peak, jnp.where(poisoned, jnp.nan, excess))


def _share(stats: Statistics) -> Rows:
    """What p is at the peak; 1 for an empty row."""
    total = 1 + stats.excess
    return 1 / jnp.where(total == 0, 1, total)


def weights(x: Logits, beta: Rows, where: Mask, stats: Statistics) -> Logits:
    """p of (3); 0 where absent."""
    return jnp.where(live(x, where), jnp.exp(gap(x, beta, where, stats.peak)) * _share(stats), 0)


def complements(x: Logits, beta: Rows, where: Mask, stats: Statistics) -> Logits:
    """1 − p without cancellation: s / (1 + s) at the peak, elsewhere p ≤ ½."""
    at_top = at_peak(x, where, stats.peak)
    return jnp.where(at_top, stats.excess * _share(stats), 1 - weights(x, beta, where, stats))


def log_excess(stats: Statistics) -> Rows:
    """log1p(s) = log Z − β m."""
    return jnp.log1p(stats.excess)


def log_weights(x: Logits, beta: Rows, where: Mask, stats: Statistics) -> Logits:
    """log p of (3); −∞ where absent, or NaN in a row that is poisoned."""
    offset = log_excess(stats)
    return gap(x, beta, where, stats.peak) - jnp.where(offset == -jnp.inf, 0, offset)


def entropy(x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes) -> Rows:
    """H = log1p(s) − Σ p t ≥ 0, a sum of terms of one sign; 0 for an empty row."""
    p = weights(x, beta, where, stats)
    mean_gap = times_twice(finite_part(beta), jnp.sum(p * half_gap(x, where, stats.peak), axes, keepdims=True))
    return jnp.where(stats.excess == -1, 0, log_excess(stats) - mean_gap)


def log_partition(beta: Rows, stats: Statistics) -> Rows:
    """β m + log1p(s)."""
    # not ±∞ · 0
    return jnp.where(stats.peak == 0, 0, beta * stats.peak) + log_excess(stats)


def mean_logit(x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes) -> Rows:
    """m + Σ p (x − m), the sum of terms of one sign."""
    p = weights(x, beta, where, stats)
    return stats.peak + 2 * jnp.sum(p * half_gap(x, where, stats.peak), axes, keepdims=True)


def label_log_weight(x: Logits, labels: Labels, beta: Rows, where: Mask, stats: Statistics, axes: Axes) -> Rows:
    """log p at the label of each row; 0 if it is no class."""

    def pick(a, index):
        return jnp.where(at_label(index, labels, a), a, 0)

    # the logit is picked, and not its log-weight: nothing of the logits' size is computed
    picked = classes.total(pick, axes, widen(x), classes.INDEX)
    shown = where
    if where is not None:
        everywhere = jnp.where(where, jnp.ones_like(x, stats.peak.dtype), 0)
        shown = classes.total(pick, axes, everywhere, classes.INDEX) > 0
    a_class = is_class(labels, class_count(x.shape, axes))
    return jnp.where(a_class, log_weights(picked, beta, shown, stats), 0)


def expected_log_weight(
    q: Logits, x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes, absent: bool
) -> Rows:
    """Σ_j q_j log p_j with 0 · log 0 = 0, over all classes or without those that are absent."""

    def term(x, where, q):
        y = times_log(q, log_weights(x, beta, where, stats))
        return y if absent else jnp.where(live(x, where), y, 0)

    return classes.total(term, axes, x, where, q)


def times_log(y: Array, log_p: Array) -> Array:
    return jnp.where((y == 0) & (log_p == -jnp.inf), 0, y * log_p)
