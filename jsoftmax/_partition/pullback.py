"""Cotangents of β x from cotangents of the weights and of the log-weights.

    t_bar_j  =  p_j (g_j − Σ p g)                  for g on p                                         (10)
    t_bar_j  =  g_j − p_j Σ g                      for g on log p                                     (11)
    x_bar_j  =  β t_bar_j          β_bar = Σ_j (x_j − m) t_bar_j       for Σ_j t_bar_j = 0             (12)

Both are taken twice, for they cancel at an entry that has nearly all the weight. What the second time takes off, p_j
times the sum of the first results, is 0 but for their roundings. With the sum o of what is not at the peak, (11) is
there

    t_bar  =  (1 − p) Σ g − o

of which neither term cancels, nor much of their difference but what the result has lost to begin with.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from jsoftmax._core.axes import class_index, names, positions, total
from jsoftmax._core.types import ClassAxes, Logits, Mask, Rows
from jsoftmax._partition import classes, limits, online, reference, resident
from jsoftmax._partition.reference import Statistics, half_gap, live, masked, times
from jsoftmax._partition.statistics import complements, sums_apart, weights


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
    sums: tuple[Rows, Rows] | None = None,
):
    """t_bar of (11) for the cotangent g(x, where, *operands), which `classes.total` may take class by class.

    Accelerators take the form with sums where a row is not on chip, and another read of the logits is what it costs to
    do anything twice; the two `sums`, of all and beside the peak, may be known there.
    """

    def each(x):
        return (class_index(x.shape, axes) if a is classes.INDEX else a for a in operands)

    def twice(x, beta, where, stats, sums):
        def left(x, where, *operands):
            return g(x, where, *operands) - reference.weights(x, beta, where, stats) * of_all

        of_all = classes.alone(lambda x, where: classes.total(g, axes, x, where, *operands), axes, x, where)
        p = weights(x, beta, where, stats, axes)
        # 0 but for roundings, and at a peak that has nearly all the weight these are the result
        rest = lax.stop_gradient(classes.total(left, axes, x, where, *operands))
        return (g(x, where, *each(x)) - p * of_all) - p * rest

    def at_once(x, beta, where, stats, sums):
        # beside a second class near it the peak has half of the weight, and nothing cancels
        alone = reference.alone(reference.masses(x, beta, where, stats.peak), stats.excess)
        bar = g(x, where, *each(x))
        of_all, beside = sums or sums_apart(bar, x, beta, where, stats, axes)
        rest = complements(x, beta, where, stats, axes) * of_all - beside
        return jnp.where(alone, rest, bar - weights(x, beta, where, stats, axes) * of_all)

    known = x, beta, where, stats, sums
    if names(axes) or not online.suits(x, positions(axes)):
        return twice(*known)
    on_gpu = twice if resident.fits(x, beta, axes, True) else at_once
    return lax.platform_dependent(*known, cpu=twice, cuda=on_gpu, rocm=on_gpu, default=at_once)


def to_logits(t_bar: Logits, x: Logits, beta: Rows | None, where: Mask, used: Rows | None = None):
    """x_bar of (12), in the dtype of x; 0 where masked, and in rows that are not used."""
    y = masked(times(beta, t_bar), where)
    return (y if used is None else jnp.where(used, y, 0)).astype(x.dtype)


def to_beta(t_bar: Logits, x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Rows:
    """β_bar of (12), one a row."""
    pulled = jnp.where(live(x, where), half_gap(x, where, stats.peak) * t_bar, 0)
    return limits.held(2 * total(pulled, axes), beta, stats.excess)
