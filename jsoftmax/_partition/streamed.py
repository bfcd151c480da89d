"""Rows whose classes come in blocks, one block at a time in memory.

What a block gives is merged with what was found before, as `merge` has it. Sums of t, relative to the peak so far, move
with it:

    Σ t  →  Σ t + K β (m − M)          Σ e^t t  →  e^{β (m − M)} (Σ e^t t + Σ e^t · β (m − M))

all of one sign. Seen again, each block gives its part of a cotangent from the finished numbers. No derivative passes
through here: that of an operator on streamed rows is the one of whole rows.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core import accurate, blocks, mesh
from jsoftmax._core import axes as ax
from jsoftmax._core.labels import at_label, is_class
from jsoftmax._core.types import ClassAxes, Labels, Logits, Rows
from jsoftmax._partition import labelled, limits, merge, penalties, pullback, reference
from jsoftmax._partition.penalties import Options, Sums
from jsoftmax._partition.reference import Statistics, live


class Found(NamedTuple):
    """Of each row; None what is not asked for."""

    stats: Statistics
    at: Rows  # the label's logit, −∞ if it is no class
    count: Any  # live classes, K
    drop: Any  # Σ t over them
    turn: Any  # Σ e^t t
    first: Any  # the first class at the peak


NONE = jnp.iinfo(jnp.int32).max  # later than every class


def first_at_peak(z: Logits, stats: Statistics, axes: ClassAxes) -> Labels:
    """Index of the first class at the peak; 0 if there is none."""
    at_peak = jnp.where(z == stats.peak, ax.class_index(z.shape, axes), NONE)
    return _first_of(jnp.min(at_peak, ax.positions(axes), keepdims=True, initial=NONE), ax.names(axes))


def _first_of(first: Labels, names: tuple[str, ...]) -> Labels:
    first = lax.pmin(first, names) if names else first
    return jnp.where(first == NONE, 0, first)


def find(
    logits: Callable[..., Logits],
    classes: int,
    block: int,
    labels: Labels,
    beta: Rows,
    options: Options,
    measured: bool,
) -> Found:
    """What logits(start, length), on the last axis, give for start = 0, block, 2 block, …"""
    axes, wide = (labels.ndim - 1,), beta.dtype
    smooth, (nothing, _) = options.smoothing is not None, mesh.vary(jnp.zeros(labels.shape, wide), labels)

    def look(found, start, length):
        z, index = logits(start, length), labels - start
        stats = merge.merge(found.stats, reference.statistics_of(z, beta, None, axes), beta)
        at = jnp.where(is_class(index, length), labelled.pick(z, index, z, axes), found.at)
        empty = found.stats.excess == -1
        moved = reference.gap(jnp.where(empty, stats.peak, found.stats.peak), beta, None, stats.peak)
        t = reference.gap(z, beta, None, stats.peak)
        count = drop = turn = first = None
        if smooth:
            present = live(z, None)
            count = found.count + jnp.sum(present.astype(wide), axes, keepdims=True)
            drop = found.drop + jnp.where(empty, 0, found.count * moved)
            drop += jnp.sum(jnp.where(present, t, 0), axes, keepdims=True)
        if measured:
            turn = _turned(found.turn, found.stats.excess, moved)
            turn += jnp.sum(jnp.where(t == -jnp.inf, 0, accurate.exp(t) * t), axes, keepdims=True)
            same = (stats.peak == found.stats.peak) & ~empty
            first = jnp.where(same, found.first, start + first_at_peak(z, stats, axes))
            first = jnp.where(jnp.isnan(stats.peak), 0, first)
        return Found(stats, at, count, drop, turn, first)

    start = Found(
        Statistics(nothing, nothing - 1),
        nothing - jnp.inf,
        nothing if smooth else None,
        nothing if smooth else None,
        nothing if measured else None,
        jnp.zeros_like(labels) if measured else None,
    )
    return blocks.over_slices(look, start, classes, block)


def over_devices(found: Found, labels: Labels, begin: Array, classes: int, beta: Rows, names: tuple[str, ...]) -> Found:
    """Of rows whose classes the devices have between them, each as many, this one those from `begin` on."""
    stats, (peak, excess) = merge.over_devices(found.stats, beta, names), found.stats
    empty, inside = excess == -1, is_class(labels - begin, classes)
    moved = reference.gap(jnp.where(empty, stats.peak, peak), beta, None, stats.peak)
    at = lax.psum(jnp.where(inside, found.at, 0), names)
    at = jnp.where(is_class(labels, classes * lax.axis_size(names)), at, -jnp.inf)
    count, drop, turn, first = found.count, found.drop, found.turn, found.first
    if count is not None:
        count, drop = lax.psum((count, drop + jnp.where(empty, 0, count * moved)), names)
    if turn is not None:
        turn = lax.psum(_turned(turn, excess, moved), names)
        first = _first_of(jnp.where((peak == stats.peak) & ~empty, begin + first, NONE), names)
    return Found(stats, at, count, drop, turn, first)


def _turned(turn: Rows, excess: Rows, moved: Rows) -> Rows:
    """Σ e^t t relative to a peak that has `moved` away."""
    kept = accurate.exp(moved)
    return jnp.where(kept == 0, 0, kept * (turn + (1 + excess) * moved))


def as_labelled(found: Found, labels: Labels, ignored: Rows | None, classes: int) -> Found:
    """As a loss sees the rows: NaN without a class to point at, numbers where ignored."""
    peak, excess = found.stats
    found = found._replace(stats=Statistics(peak, jnp.where(is_class(labels, classes), excess, jnp.nan)))
    return found if ignored is None else calm(found, ~ignored)


def calm(found: Found, used: Rows) -> Found:
    """Numbers in rows that are not used."""
    stats = Statistics(*(jnp.where(used, s, 0) for s in found.stats))
    return found._replace(stats=stats, at=jnp.where(used, found.at, 0))


def log_weight(found: Found, beta: Rows) -> Rows:
    """log p at the label."""
    return reference.log_weights(found.at, beta, None, found.stats)


def sums(found: Found, beta: Rows, options: Options) -> Sums:
    """What `penalties.sums` gives of whole rows."""
    share = log_p = log_z = None
    if options.smoothing is not None:
        share = penalties.share_of(found.count)
        log_p = jnp.where(found.count == 0, 0, found.drop - found.count * reference.log_excess(found.stats))
    if options.z_loss is not None:
        log_z = penalties.finite_log_z(reference.log_partition(beta, found.stats), found.stats)
    return Sums(share, log_p, log_z)


def entropy(found: Found) -> Rows:
    spread = reference.log_excess(found.stats) - found.turn * reference.share(found.stats)
    return jnp.where(found.stats.excess == -1, 0, spread)


def label_pull(
    g: Rows, level: Rows, even: Rows | None, z: Logits, start: Any, labels: Labels, used: Rows, beta: Rows, found: Found
) -> tuple[Logits, Rows]:
    """(z_bar, β_bar) of a block: t_bar = g (p_j − δ_jy) + level p_j − even, as in `labelled.pull`."""
    axes, stats = (z.ndim - 1,), found.stats
    row = jnp.where(used, z, 0)
    p = reference.weights(row, beta, None, stats)
    at = reference.masses(found.at, beta, None, stats.peak)
    here = at_label(start + ax.class_index(z.shape, axes), labels, z)
    t_bar = jnp.where(here, labelled.at_label_bar(g, level, at, stats), (g + level) * p)
    t_bar = t_bar if even is None else t_bar - jnp.where(live(row, None), even, 0)
    t_bar = jnp.where(used, t_bar, 0)
    # the loss of a label on an absent class is infinite whatever β is
    absent = jnp.where(found.at == -jnp.inf, g, 0) * p
    return pullback.to_logits(t_bar, z, beta, None), pullback.to_beta(t_bar - absent, row, beta, None, stats, axes)


def measures_pull(g: Sequence[Rows], z: Logits, used: Rows, beta: Rows, found: Found) -> tuple[Logits, Rows]:
    """(z_bar, β_bar but for `slope`) of a block, for cotangents of β⁻¹ log Z and of the entropy."""
    (lse, entropy), axes, z = g, (z.ndim - 1,), jnp.where(used, z, 0)
    p, t = reference.weights(z, beta, None, found.stats), reference.gap(z, beta, None, found.stats.peak)
    t_bar = -entropy * jnp.where(p == 0, 0, p * (t - found.turn * reference.share(found.stats)))
    z_bar = jnp.where(used, lse * p + reference.finite_part(beta) * t_bar, 0)
    return z_bar, pullback.to_beta(t_bar, z, beta, None, found.stats, axes)


def slope(found: Found, beta: Rows) -> Rows:
    """Of β⁻¹ log Z in β: −H / β²."""
    inverse = limits.inverse(beta)
    return limits.saturate(-entropy(found) * inverse * inverse)
