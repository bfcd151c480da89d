"""What label smoothing and the z-loss add to a cross-entropy.

    K live classes, w their weights (1 if none are given), L = log Z

    smoothing   ε/K Σ_j w_j (−log p_j)          t_bar_j  =  ε/K (p_j Σ_i w_i − w_j)                   (13)
    z-loss      λ L²                            t_bar_j  =  2 λ L p_j,    β_bar += 2 λ L m             (14)

In (14) Σ_j t_bar_j is not 0, so β_bar has the peak in it beside (12). An empty row adds nothing.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jsoftmax._core.types import Axes, Logits, Mask, Rows
from jsoftmax._partition import classes, limits
from jsoftmax._partition.statistics import (
    Statistics,
    expected_log_weight,
    finite_log_weights,
    live,
    log_partition,
    times_log,
)


class Options(NamedTuple):
    """At the rank of the logits; None where not given."""

    smoothing: Any  # ε, one a row
    z_loss: Any  # λ, one a row
    class_weights: Any  # w, of size 1 outside the class axes


def _even(x: Logits, where: Mask, stats: Statistics, options: Options, axes: Axes):
    """w, and 1/K, which is 0 for an empty row."""
    w = jnp.ones((1,) * x.ndim, stats.peak.dtype) if options.class_weights is None else options.class_weights
    count = classes.total(lambda x, where: live(x, where).astype(stats.peak.dtype), axes, x, where)
    return w, jnp.where(count == 0, 0, 1 / jnp.maximum(count, 1))


def _log_z(x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes) -> Rows:
    """L with a square that is a number wherever λ = 0, and 0 for an empty row."""
    log_z = limits.saturate(log_partition(x, beta, where, stats, axes))
    return jnp.where(stats.excess == -1, 0, log_z)


def value(x: Logits, beta: Rows, where: Mask, stats: Statistics, options: Options, axes: Axes):
    y: Any = 0.0
    if options.smoothing is not None:
        w, share = _even(x, where, stats, options, axes)
        y -= times_log(options.smoothing * share, expected_log_weight(w, x, beta, where, stats, axes, False))
    if options.z_loss is not None:
        log_z = _log_z(x, beta, where, stats, axes)
        y += options.z_loss * log_z * log_z
    return y


class Pull(NamedTuple):
    """Cotangents: level p_j of β x_j, −even w_j of log p_j at live classes; and what goes beside them."""

    level: Rows
    even: Rows | None
    total: Rows  # the sum of `even` over live classes
    beta: Any  # β_bar beside (12)
    options: Options  # their cotangents


def pull(g: Rows, x: Logits, beta: Rows, where: Mask, stats: Statistics, options: Options, axes: Axes) -> Pull:
    """For the cotangent `g` of the value."""
    level, even, total, bars = jnp.zeros_like(g), None, jnp.zeros_like(g), Options(0.0, 0.0, 0.0)
    beta_bar: Any = 0.0
    if options.smoothing is not None:
        w, share = _even(x, where, stats, options, axes)
        each = g * options.smoothing * share
        even, total = each, jnp.where(share == 0, 0, g * options.smoothing)
        each_bar = jnp.where(live(x, where), -each * finite_log_weights(x, beta, where, stats, axes), 0)
        log_p = expected_log_weight(w, x, beta, where, stats, axes, False)
        bars = bars._replace(smoothing=-g * share * jnp.where(log_p == -jnp.inf, 0, log_p), class_weights=each_bar)
    if options.z_loss is not None:
        log_z = _log_z(x, beta, where, stats, axes)
        slope = 2 * g * options.z_loss * log_z
        level = slope  # (14)
        beta_bar = limits.held(limits.saturate(slope * stats.peak), beta, stats.excess)
        bars = bars._replace(z_loss=z_loss_bar(g, x, beta, where, stats, axes))
    return Pull(level, even, total, beta_bar, bars)


def z_loss_bar(g: Rows, x: Logits, beta: Rows, where: Mask, stats: Statistics, axes: Axes) -> Rows:
    log_z = _log_z(x, beta, where, stats, axes)
    return limits.saturate(g * log_z * log_z)
