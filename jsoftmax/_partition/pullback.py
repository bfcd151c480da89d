"""Cotangents of β x from cotangents of the weights and of the log-weights.

    t_bar_j  =  p_j (g_j − Σ p g)                  for g on p                                         (10)
    t_bar_j  =  g_j (1 − p_j) − p_j Σ_{i≠j} g_i    for g on log p                                     (11)
    x_bar_j  =  β t_bar_j          β_bar = Σ_j (x_j − m) t_bar_j       for Σ_j t_bar_j = 0             (12)

(11) is g_j − p_j Σ g without the cancellation at the entry that holds nearly all the weight.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jsoftmax._core.axes import class_index
from jsoftmax._core.types import Axes, Logits, Mask, Rows
from jsoftmax._partition import classes, limits, reference
from jsoftmax._partition.reference import Statistics, finite_part, half_gap, live, masked, share
from jsoftmax._partition.statistics import complements, weights


def through_weights(g: Logits, x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes):
    """t_bar of (10)."""
    p, g = weights(x, beta, where, stats, axes), masked(g, where)
    for _ in range(2):  # as in `deviation`; a choice by element would cost XLA:CPU its fused kernel
        g = g - jnp.sum(p * g, axes, keepdims=True)
    return p * g


def through_log_weights(
    g: Callable[..., Logits],
    operands: tuple[Any, ...],
    x: Logits,
    beta: Rows,
    where: Mask,
    stats: Statistics,
    axes: Axes,
):
    """t_bar of (11) for the cotangent g(x, where, *operands), which `classes.total` may take class by class."""

    def on_top_or_below(x, where, *operands):
        top, each = jnp.floor(reference.masses(x, beta, where, stats.peak)), g(x, where, *operands)
        return top * each, each - top * each

    def sums(x, where):
        return classes.total(on_top_or_below, axes, x, where, *operands)

    on_top, below = classes.alone(sums, axes, x, where)
    p, rest = weights(x, beta, where, stats, axes), complements(x, beta, where, stats, axes)
    each = g(x, where, *(class_index(x.shape, axes) if a is classes.INDEX else a for a in operands))
    # summed apart: (Σ g − g) would round away what lies beside a single large g at the peak
    at_top = each * rest - p * (below + (on_top - each))
    return jnp.where(p == share(stats), at_top, each - p * (below + on_top))


def to_logits(t_bar: Logits, x: Logits, beta: Rows, where: Mask, used: Rows | None = None):
    """x_bar of (12), in the dtype of x; 0 where masked, and in rows that are not used."""
    y = masked(finite_part(beta) * t_bar, where)
    return (y if used is None else jnp.where(used, y, 0)).astype(x.dtype)


def to_beta(t_bar: Logits, x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes) -> Rows:
    """β_bar of (12), one a row."""
    pulled = jnp.where(live(x, where), half_gap(x, where, stats.peak) * t_bar, 0)
    return limits.held(2 * jnp.sum(pulled, axes, keepdims=True), beta, stats.excess)
