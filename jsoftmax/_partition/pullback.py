"""Cotangents of β x from cotangents of the weights and of the log-weights.

    t_bar_j  =  p_j (g_j − Σ p g)                  for g on p                                         (10)
    t_bar_j  =  g_j − p_j Σ g                      for g on log p                                     (11)
    x_bar_j  =  β t_bar_j          β_bar = Σ_j (x_j − m) t_bar_j       for Σ_j t_bar_j = 0             (12)

Both are taken twice, for they cancel at an entry that has nearly all the weight. What the second time takes off, p_j
times the sum of the first results, is 0 but for their roundings.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from jsoftmax._core.axes import class_index, total
from jsoftmax._core.types import ClassAxes, Logits, Mask, Rows
from jsoftmax._partition import classes, limits, reference
from jsoftmax._partition.reference import Statistics, half_gap, live, masked, times
from jsoftmax._partition.statistics import weights


def through_weights(g: Logits, x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes):
    """t_bar of (10)."""
    p, g = weights(x, beta, where, stats, axes), masked(g, where)
    for _ in range(2):  # as in `deviation`; a choice by element would cost XLA:CPU its fused kernel
        g = g - total(p * g, axes)
    return p * g


def through_log_weights(
    g: Callable[..., Logits],
    operands: tuple[Any, ...],
    x: Logits,
    beta: Rows | None,
    where: Mask,
    stats: Statistics,
    axes: ClassAxes,
):
    """t_bar of (11) for the cotangent g(x, where, *operands), which `classes.total` may take class by class."""
    total = classes.alone(lambda x, where: classes.total(g, axes, x, where, *operands), axes, x, where)

    def left(x, where, *operands):
        return g(x, where, *operands) - reference.weights(x, beta, where, stats) * total

    p = weights(x, beta, where, stats, axes)
    each = (class_index(x.shape, axes) if a is classes.INDEX else a for a in operands)
    # 0 but for roundings, and at a peak that has nearly all the weight these are the result
    rest = lax.stop_gradient(classes.total(left, axes, x, where, *operands))
    return (g(x, where, *each) - p * total) - p * rest


def to_logits(t_bar: Logits, x: Logits, beta: Rows | None, where: Mask, used: Rows | None = None):
    """x_bar of (12), in the dtype of x; 0 where masked, and in rows that are not used."""
    y = masked(times(beta, t_bar), where)
    return (y if used is None else jnp.where(used, y, 0)).astype(x.dtype)


def to_beta(t_bar: Logits, x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Rows:
    """β_bar of (12), one a row."""
    pulled = jnp.where(live(x, where), half_gap(x, where, stats.peak) * t_bar, 0)
    return limits.held(2 * total(pulled, axes), beta, stats.excess)
