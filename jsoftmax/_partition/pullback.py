"""Cotangents of β x from cotangents of the weights and of the log-weights.

    t_bar_j  =  p_j (g_j − Σ p g)                  for g on p                                         (10)
    t_bar_j  =  g_j (1 − p_j) − p_j Σ_{i≠j} g_i    for g on log p                                     (11)
    x_bar_j  =  β t_bar_j          β_bar = Σ_j (x_j − m) t_bar_j       for Σ_j t_bar_j = 0             (12)

(11) is g_j − p_j Σ g without the cancellation at the entry that holds nearly all the weight.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from jsoftmax._core.types import Axes, Logits, Mask, Rows
from jsoftmax._partition import classes, limits
from jsoftmax._partition.reference import Statistics, at_peak, finite_part, half_gap, live
from jsoftmax._partition.statistics import complements, deviation, weights


def through_weights(g: Logits, x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes):
    """t_bar of (10), 0 where absent."""
    present = live(x, where)
    p = weights(x, beta, where, stats, axes)
    g = jnp.where(present, g, 0)
    return jnp.where(present, p * deviation(g, p, x, where, stats, axes), 0)


def through_log_weights(
    g: Logits, x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes, absent: bool = True
):
    """t_bar of (11), for `g` on all classes, or without those that are absent."""
    top = at_peak(x, where, stats.peak)

    def on_top_or_below(x, where, g):
        top = at_peak(x, where, stats.peak)
        return jnp.where(top, g, 0), jnp.where(top if absent else top | ~live(x, where), 0, g)

    on_top, below = classes.total(on_top_or_below, axes, x, where, g)
    # summed apart: (Σ g − g) would round away what lies beside a single large g at the peak
    others = jnp.where(top, below + (on_top - g), (below - g) + on_top)
    p, rest = weights(x, beta, where, stats, axes), complements(x, beta, where, stats, axes)
    t_bar = g * rest - p * others
    return t_bar if absent else jnp.where(live(x, where), t_bar, 0)


def to_logits(t_bar: Logits, reach: Bool[Array, "..."], x: Logits, beta: Rows):
    """x_bar of (12), in the dtype of x; outside `reach` nothing is pulled."""
    return jnp.where(reach, finite_part(beta) * t_bar, 0).astype(x.dtype)


def to_beta(t_bar: Logits, x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes) -> Rows:
    """β_bar of (12), one a row."""
    pulled = jnp.where(live(x, where), half_gap(x, where, stats.peak) * t_bar, 0)
    return limits.held(2 * jnp.sum(pulled, axes, keepdims=True), beta, stats.excess)
