"""Cotangents of β x from cotangents of the weights and of the log-weights.

    t_bar_j  =  p_j (g_j − Σ p g)                  for g on p                                          (8)
    t_bar_j  =  g_j (1 − p_j) − p_j Σ_{i≠j} g_i    for g on log p                                      (9)
    x_bar_j  =  β t_bar_j          β_bar = Σ_j (x_j − m) t_bar_j       for Σ_j t_bar_j = 0             (10)

(9) is g_j − p_j Σ g without the cancellation at the entry that holds nearly all the weight.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from jsoftmax._core.types import Axes, Logits, Mask, Rows
from jsoftmax._partition.reference import Statistics, at_peak, finite_part, half_gap, live
from jsoftmax._partition.statistics import complements, deviation, weights


def through_weights(g: Logits, x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes):
    """t_bar of (8), 0 where absent."""
    present = live(x, where)
    p = weights(x, beta, where, stats, axes)
    g = jnp.where(present, g, 0)
    return jnp.where(present, p * deviation(g, p, x, where, stats, axes), 0)


def through_log_weights(g: Logits, x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes):
    """t_bar of (9), for `g` on any class, absent ones included."""
    top = at_peak(x, where, stats.peak)
    on_top = jnp.sum(jnp.where(top, g, 0), axes, keepdims=True)
    below = jnp.sum(jnp.where(top, 0, g), axes, keepdims=True)
    # summed apart: (Σ g − g) would round away what lies beside a single large g at the peak
    others = jnp.where(top, below + (on_top - g), (below - g) + on_top)
    p, rest = weights(x, beta, where, stats, axes), complements(x, beta, where, stats, axes)
    return g * rest - p * others


def through_gap(
    t_bar: Logits, reach: Bool[Array, "..."], x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes
):
    """(x_bar, β_bar) of (10): x_bar in the dtype of x; one β a row. Outside `reach` nothing is pulled."""
    x_bar = jnp.where(reach, finite_part(beta) * t_bar, 0).astype(x.dtype)
    pulled = jnp.where(reach & live(x, where), half_gap(x, where, stats.peak) * t_bar, 0)
    beta_bar = 2 * jnp.sum(pulled, axes, keepdims=True)
    return x_bar, jnp.where(jnp.isinf(beta) & ~jnp.isnan(stats.excess), 0, beta_bar)
