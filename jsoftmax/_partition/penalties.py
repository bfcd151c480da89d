"""What label smoothing and the z-loss add to a cross-entropy.

    K live classes, w their weights (1 if none are given), L = log Z

    smoothing   ε/K Σ_j w_j (−log p_j)          t_bar_j  =  ε/K (p_j Σ_i w_i − w_j)                   (13)
    z-loss      λ L²                            t_bar_j  =  2 λ L p_j,    β_bar += 2 λ L m             (14)

In (14) Σ_j t_bar_j is not 0, so β_bar has the peak in it beside (12). An empty row adds nothing. All of it is made of
the numbers in `Sums`, wherever they come from.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jsoftmax._core.types import ClassAxes, Logits, Mask, Rows
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


class Sums(NamedTuple):
    """What the options read of a row; None where not given."""

    share: Any  # 1/K, and 0 for an empty row
    log_p: Any  # Σ w_j log p_j over live classes
    log_z: Any  # L with a square that is a number wherever λ = 0, and 0 for an empty row


def share_of(count: Rows) -> Rows:
    """1/K, and 0 for an empty row."""
    return jnp.where(count == 0, 0, 1 / jnp.maximum(count, 1))


def finite_log_z(log_z: Rows, stats: Statistics) -> Rows:
    """L as in `Sums`."""
    return jnp.where(stats.excess == -1, 0, limits.saturate(log_z))


def sums(x: Logits, beta: Rows | None, where: Mask, stats: Statistics, options: Options, axes: ClassAxes) -> Sums:
    share = log_p = log_z = None
    if options.smoothing is not None:
        w = jnp.ones((1,) * x.ndim, stats.peak.dtype) if options.class_weights is None else options.class_weights
        share = share_of(classes.total(lambda x, where: live(x, where).astype(stats.peak.dtype), axes, x, where))
        log_p = expected_log_weight(w, x, beta, where, stats, None, axes, False)
    if options.z_loss is not None:
        log_z = finite_log_z(log_partition(x, beta, where, stats, axes), stats)
    return Sums(share, log_p, log_z)


def value(found: Sums, options: Options):
    y: Any = 0.0
    if options.smoothing is not None:
        y -= times_log(options.smoothing * found.share, found.log_p)
    if options.z_loss is not None:
        y += options.z_loss * found.log_z * found.log_z
    return y


class Pull(NamedTuple):
    """Cotangents: level p_j of β x_j, −even w_j of log p_j at live classes; and what goes beside them."""

    level: Rows
    even: Rows | None
    total: Rows  # the sum of `even` over live classes
    beta: Any  # β_bar beside (12)
    smoothing: Any  # ε_bar


def pull(g: Rows, found: Sums, beta: Rows | None, stats: Statistics, options: Options) -> Pull:
    """For the cotangent `g` of the value."""
    level, even, total = jnp.zeros_like(g), None, jnp.zeros_like(g)
    beta_bar: Any = 0.0
    smoothing_bar: Any = 0.0
    if options.smoothing is not None:
        even, total = g * options.smoothing * found.share, jnp.where(found.share == 0, 0, g * options.smoothing)
        smoothing_bar = -g * found.share * jnp.where(found.log_p == -jnp.inf, 0, found.log_p)
    if options.z_loss is not None:
        level = 2 * g * options.z_loss * found.log_z  # (14)
        if beta is not None:
            beta_bar = limits.held(limits.saturate(level * stats.peak), beta, stats.excess)
    return Pull(level, even, total, beta_bar, smoothing_bar)


def z_loss_bar(g: Rows, log_z: Rows) -> Rows:
    return limits.saturate(g * log_z * log_z)


def class_weights_bar(even: Rows | None, x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes):
    """Of the smoothed terms, one for each logit."""
    if even is None:
        return 0.0
    return jnp.where(live(x, where), -even * finite_log_weights(x, beta, where, stats, axes), 0)
