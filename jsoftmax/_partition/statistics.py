"""The log-partition function as the operators use it: every entry closed under differentiation.

`statistics` reads the row once; all else follows elementwise from the logits and that pair. The pair carries no
derivative. Each entry built on it has the *total* derivative as its rule, in terms of closed entries again, so values
are right to any order, also where the formula counts ties or takes a limit:

    ṫ_j     =  β ẋ_j + (x_j − m) β̇           (0 where masked)                                      (4)
    (log p_j)˙  =  ṫ_j − Σ_i p_i ṫ_i                                                               (5)
    ṗ_j     =  p_j (log p_j)˙                                                                      (6)
    Ḣ       =  −Σ_j t_j ṗ_j                                                                        (7)
    (log Z)˙  =  β Σ_j p_j ẋ_j + E[x] β̇           E[x] = m + Σ_j p_j (x_j − m)                        (8)
    E[x]˙   =  Σ_j p_j ẋ_j + Σ_j (x_j − m) ṗ_j                                                     (9)

(5) to (7) and (9) do not change when a constant is added to every ṫ, t or x − m of a row. Hence m needs no derivative,
and (5) is taken twice: where p is nearly one-hot, ṫ − Σ p ṫ cancels at the peak, and of what is left it does not.

Platforms: the pair is that of `online` on accelerators, on CPU of `reference`, `blocked` or `labelled`; what follows
from it is a primal below that calls `reference` or `labelled`. A formula for one platform is chosen at lowering.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core.axes import class_index, names, positions, total
from jsoftmax._core.dtypes import widen
from jsoftmax._core.labels import at_label
from jsoftmax._core.types import ClassAxes, Labels, Logits, Mask, Rows
from jsoftmax._partition import blocked, classes, labelled, limits, online, reference, resident
from jsoftmax._partition.merge import over_devices
from jsoftmax._partition.reference import (
    Statistics,
    finite_part,
    half_gap,
    live,
    log_excess,
    masked,
    share,
    times,
    times_twice,
)

__all__ = [
    "Statistics",
    "complements",
    "deviation",
    "entropy",
    "expected_log_weight",
    "finite_log_weights",
    "finite_part",
    "gap",
    "half_gap",
    "label_log_weight",
    "label_pull",
    "label_statistics",
    "live",
    "live_log_weights",
    "log_excess",
    "log_partition",
    "log_weights",
    "masked",
    "mass_statistics",
    "share",
    "signed_gap",
    "statistics",
    "sums_apart",
    "times",
    "times_log",
    "times_twice",
    "weights",
    "without",
]


def statistics(
    x: Logits, beta: Rows | None, where: Mask, axes: ClassAxes, fine: bool = True, each: bool = False
) -> Statistics:
    """(peak, excess) of each row: constants of every derivative, see above.

    Without `fine` the excess is exact beside 1 only, which is enough for weights and not for log Z. `each` tells that
    all they are for is one elementwise result of the size of the logits.
    """
    x, beta = lax.stop_gradient((x, beta))
    if names(axes):
        return over_devices(statistics(x, beta, where, positions(axes), fine), beta, names(axes))
    here = positions(axes)

    def in_turn(x, beta, where):
        return reference.statistics_of(x, beta, where, here, fine)

    def in_blocks(x, beta, where):
        peak = reference.peak_of(x, beta, where, here)
        return reference.checked(peak, blocked.excess_in(reference.frame(beta, peak), x), beta)

    def at_once(x, beta, where):
        return online.statistics_of(x, beta, where, here)

    if not online.suits(x, here):
        return classes.alone(in_turn, here, x, beta, where)
    by_blocks = fine and not (each and blocked.fuses(x)) and blocked.suits(x, where, here)
    return lax.platform_dependent(x, beta, where, cpu=in_blocks if by_blocks else in_turn, default=at_once)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def mass_statistics(
    q: Logits, x: Logits, beta: Rows | None, where: Mask, axes: ClassAxes
) -> tuple[Statistics, online.Masses | None]:
    """The same, and what the masses q of a row are, where accelerators have that from the same read; elsewhere zeros,
    on CPU and where a GPU has the row on chip."""
    q, x, beta = lax.stop_gradient((q, x, beta))
    here = positions(axes)
    if names(axes) or not online.suits(x, here):
        return statistics(x, beta, where, axes), None

    def without_masses(q, x, beta, where):
        stats = statistics(x, beta, where, axes)
        return stats, online.Masses(*(jnp.zeros_like(stats.peak) for _ in range(3)))

    def at_once(q, x, beta, where):
        return online.mass_statistics_of(q, x, beta, where, here)

    on_gpu = without_masses if resident.fits(x, beta, axes, True) else at_once
    return lax.platform_dependent(q, x, beta, where, cpu=without_masses, cuda=on_gpu, rocm=on_gpu, default=at_once)


@mass_statistics.defjvp
def _(axes, primals, tangents):
    """The sums are linear in q; what is made of the pair and of the gap has rules of its own."""
    stats, masses = mass_statistics(*primals, axes)
    still = jax.tree.map(jnp.zeros_like, (stats, masses))
    if masses is None:
        return (stats, masses), still
    moved, beside = _sums_apart(tangents[0], (*primals[1:], stats), axes)
    return (stats, masses), (still[0], still[1]._replace(total=moved, beside=beside))


@functools.partial(jax.custom_jvp, nondiff_argnums=(5,))
def sums_apart(
    v: Logits, x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes
) -> tuple[Rows, Rows]:
    """Σ v of each row, and of what is beside the peak; for accelerators, which may have both from the pair's read."""
    return online.sums_of(v, x, beta, where, positions(axes))


@sums_apart.defjvp
def _(axes, primals, tangents):
    return sums_apart(*primals, axes), _sums_apart(tangents[0], primals[1:], axes)


def _sums_apart(v, of_rows, axes):
    """The same, which can be transposed."""
    x, beta, where, stats = of_rows
    at_peak = reference.masses(x, beta, where, stats.peak) == 1
    return total(v, axes), total(jnp.where(at_peak, 0, v), axes)


def label_statistics(
    x: Logits,
    labels: Labels,
    bad: Rows,
    ignored: Rows | None,
    beta: Rows | None,
    where: Mask,
    axes: ClassAxes,
    fine: bool,
    alone: bool,
) -> tuple[Statistics, Rows]:
    """The same for rows with labels, NaN in bad rows and 0 in ignored ones; and the logit of the label.

    Without `fine` the excess of a row whose label is not at the peak is exact beside 1 only: enough for the label.
    `alone` tells that no gradient is made of the same exponentials.
    """
    x, beta = lax.stop_gradient((x, beta))
    if names(axes):
        stats = (jnp.where(bad, jnp.nan, s) for s in statistics(x, beta, where, axes))
        found = Statistics(*(s if ignored is None else jnp.where(ignored, 0, s) for s in stats))
        return found, labelled.pick(x, labels, x, axes)
    here = positions(axes)

    def used(peak, bad, ignored):
        peak = jnp.where(bad, jnp.nan, peak)
        return peak if ignored is None else jnp.where(ignored, 0, peak)

    def checked(peak, excess, beta, ignored):
        peak, excess = reference.checked(peak, excess, beta)
        return Statistics(peak, excess if ignored is None else jnp.where(ignored, 0, excess))

    def in_turn(x, labels, bad, ignored, beta, where):
        peak = used(reference.peak_of(x, beta, where, here), bad, ignored)
        stats = checked(peak, reference.excess_of(x, beta, where, peak, here), beta, ignored)
        return stats, labelled.pick(x, labels, x, here)

    def from_label(x, labels, bad, ignored, beta, where):
        peak = used(reference.peak_of(x, beta, where, here), bad, ignored)
        excess = labelled.excess_of(x, labels, beta, where, peak, here, fine, alone)
        return checked(peak, excess, beta, ignored), labelled.pick(x, labels, x, here)

    def at_once(x, labels, bad, ignored, beta, where):
        (peak, excess), at = online.label_statistics_of(x, labels, beta, where, here)
        return checked(used(peak, bad, ignored), excess, beta, ignored), at.astype(x.dtype)

    operands = x, labels, bad, ignored, beta, where
    if not labelled.by_index(x, here):
        return classes.alone(in_turn, here, *operands, kept=not alone)
    return lax.platform_dependent(*operands, cpu=from_label, default=at_once)


def without(rows: Rows, x: Logits, stats: Statistics, beta: Rows | None) -> tuple[Logits, Statistics, Rows | None]:
    """Numbers in these rows, so that no NaN of theirs meets a zero cotangent in a derivative of what follows."""
    return (
        jnp.where(rows, 0, x),
        Statistics(*(jnp.where(rows, 0, s) for s in stats)),
        beta if beta is None else jnp.where(rows, 1, beta),
    )


@jax.custom_jvp
def gap(x: Logits, beta: Rows | None, where: Mask, peak: Rows) -> Logits:
    """t = β (x − m); −∞ where absent."""
    return reference.gap(x, beta, where, peak)


@jax.custom_jvp
def signed_gap(x: Logits, beta: Rows, where: Mask, peak: Rows) -> Logits:
    """t of any sign, for a peak that some live entries may pass; −∞ where absent, and beside the peak at β = ±∞."""
    t = jnp.where(jnp.isinf(beta), reference.gap(x, beta, where, peak), reference.signed_gap(x, beta, peak))
    return jnp.where(live(x, where), t, -jnp.inf)


def _gap_tangent(primals, tangents):
    """(4), m a constant."""
    x, beta, where, peak = primals
    moved = times(beta, widen(tangents[0]))
    if beta is not None:
        moved += half_gap(x, where, peak) * (2 * jnp.where(jnp.isinf(beta), 0, tangents[1]))
    return jnp.where(live(x, where), moved, 0)


@gap.defjvp
def _(primals, tangents):
    return gap(*primals), _gap_tangent(primals, tangents)


@signed_gap.defjvp
def _(primals, tangents):
    return signed_gap(*primals), _gap_tangent(primals, tangents)


def deviation(v: Logits, p: Logits, axes: ClassAxes) -> Logits:
    """v − Σ p v over the entries of each row where p is not 0.

    Taken off twice: what the first time rounds away at a peak that has nearly all the weight, the second time finds.
    """
    for _ in range(2):
        v = v - total(jnp.where(p == 0, 0, p * v), axes)
    return v


def _deviations(primals, tangents, axes):
    """(5) as its two parts: of β⁻¹ (log p)˙ by x, of (log p)˙ by β. β itself comes last, for β ẋ may overflow where
    p = 0.

    An absent entry follows the others, and if it is a −∞ that is not masked also its own ẋ: there a label may point,
    whose loss is infinite with the gradient of its limit. What β moves is the live part."""
    x, beta, where, stats = primals
    present, p = live(x, where), weights(x, beta, where, stats, axes)
    by_x = widen(tangents[0])
    by_x = by_x if where is None else jnp.where(where, by_x, 0)
    if beta is None:
        return deviation(by_x, p, axes), None
    # not (2 · half a gap) · β̇: the gap may overflow, and β̇ be 0
    by_beta = half_gap(x, where, stats.peak) * (2 * jnp.where(jnp.isinf(beta), 0, tangents[1]))
    by_beta = jnp.where(present, deviation(by_beta, p, axes), 0)
    return deviation(by_x, p, axes), by_beta


def _log_weight_tangent(primals, tangents, axes):
    """(5)."""
    by_x, by_beta = _deviations(primals, tangents, axes)
    moved = times(primals[1], by_x)
    return moved if by_beta is None else moved + by_beta


def _weight_tangent(primals, tangents, axes):
    """(6)."""
    x, beta, where, stats = primals
    p = weights(x, beta, where, stats, axes)
    by_x, by_beta = _deviations(primals, tangents, axes)
    moved = times(beta, p * by_x)
    moved = moved if by_beta is None else moved + p * by_beta
    return jnp.where(live(x, where), moved, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def weights(x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Logits:
    """p: softmax(β x), float32 or wider; 0 where absent."""
    return reference.weights(x, beta, where, stats)


@weights.defjvp
def _(axes, primals, tangents):
    return weights(*primals, axes), _weight_tangent(primals, tangents, axes)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def complements(x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Logits:
    """1 − p without cancellation."""
    return reference.complements(x, beta, where, stats)


@complements.defjvp
def _(axes, primals, tangents):
    return complements(*primals, axes), -_weight_tangent(primals, tangents, axes)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def log_weights(x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Logits:
    """log p; −∞ where absent, NaN where not masked in a row that is poisoned."""
    return reference.log_weights(x, beta, where, stats)


@log_weights.defjvp
def _(axes, primals, tangents):
    return log_weights(*primals, axes), _log_weight_tangent(primals, tangents, axes)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def live_log_weights(x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Logits:
    """The same, constant where absent."""
    return reference.log_weights(x, beta, where, stats)


@live_log_weights.defjvp
def _(axes, primals, tangents):
    moved = _log_weight_tangent(primals, tangents, axes)
    return live_log_weights(*primals, axes), jnp.where(live(primals[0], primals[2]), moved, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def entropy(x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Rows:
    """H(p) of each row, in nats."""
    return reference.entropy(x, beta, where, stats, axes)


@entropy.defjvp
def _(axes, primals, tangents):
    x, beta, where, stats = primals
    p_dot = _weight_tangent(primals, tangents, axes)
    moved = total(half_gap(x, where, stats.peak) * p_dot, axes)
    return entropy(*primals, axes), -times_twice(beta, moved)


def _mean_of_tangent(primals, tangents, axes):
    x, _, where, _ = primals
    moved = weights(*primals, axes) * jnp.where(live(x, where), widen(tangents[0]), 0)
    return total(moved, axes)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def log_partition(x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Rows:
    """log Z, in nats; −∞ for an empty row, ±∞ where β m overflows."""
    return reference.log_partition(beta, stats)


@log_partition.defjvp
def _(axes, primals, tangents):
    """(8)."""
    _, beta, _, stats = primals
    moved = times(beta, _mean_of_tangent(primals, tangents, axes))
    if beta is not None:
        moved += limits.held(mean_logit(*primals, axes), beta, stats.excess) * tangents[1]
    return log_partition(*primals, axes), moved


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def mean_logit(x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Rows:
    """E[x] under p; 0 for an empty row."""
    return reference.mean_logit(x, beta, where, stats, axes)


@mean_logit.defjvp
def _(axes, primals, tangents):
    """(9)."""
    x, _, where, stats = primals
    turned = half_gap(x, where, stats.peak) * _weight_tangent(primals, tangents, axes)
    turned = 2 * total(turned, axes)
    return mean_logit(*primals, axes), _mean_of_tangent(primals, tangents, axes) + turned


@functools.partial(jax.custom_jvp, nondiff_argnums=(7,))
def label_log_weight(
    x: Logits,
    labels: Labels,
    at: Rows | None,
    unused: Rows | None,
    beta: Rows | None,
    where: Mask,
    stats: Statistics,
    axes: ClassAxes,
) -> Rows:
    """log p at the label of each row, whose logit `at` may be known; 0 if it is no class, and in rows not used."""
    log_p = labelled.log_weight(x, labels, at, beta, where, stats, axes)
    return log_p if unused is None else jnp.where(unused, 0, log_p)


@label_log_weight.defjvp
def _(axes, primals, tangents):
    x, labels, _, unused, beta, where, stats = primals
    x, stats, beta = (x, stats, beta) if unused is None else without(unused, x, stats, beta)
    moved = _log_weight_tangent((x, beta, where, stats), (tangents[0], tangents[4]), axes)
    moved = jnp.where(at_label(class_index(x.shape, axes), labels, x), moved, 0)
    moved = total(moved, axes)
    return label_log_weight(*primals, axes), moved if unused is None else jnp.where(unused, 0, moved)


label_pull = jax.custom_jvp(labelled.pull, nondiff_argnums=(9,))


@label_pull.defjvp
def _(axes, primals, tangents):
    g, level, _, x, labels, used, beta, where, stats = primals
    x, stats, beta = without(~used, x, stats, beta)
    moved = (g + level) * _weight_tangent((x, beta, where, stats), (tangents[3], tangents[6]), axes)
    moved += label_pull(*tangents[:3], x, labels, used, beta, where, stats, axes)
    return label_pull(*primals, axes), jnp.where(used, moved, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(6, 7))
def expected_log_weight(
    q: Logits,
    x: Logits,
    beta: Rows | None,
    where: Mask,
    stats: Statistics,
    masses: online.Masses | None,
    axes: ClassAxes,
    absent: bool,
) -> Rows:
    """Σ_j q_j log p_j with 0 · log 0 = 0, in value and in every derivative; over all classes, or without the absent.

    Over all, and where the platform has them, from the masses q of each row alone.
    """

    def from_logits(q, x, beta, where, stats, masses):
        return reference.expected_log_weight(q, x, beta, where, stats, axes, absent)

    def from_masses(q, x, beta, where, stats, masses):
        return 0 - (masses.gap + masses.total * jnp.maximum(log_excess(stats), 0))

    operands = q, x, beta, where, stats, masses
    if masses is None:
        return from_logits(*operands)
    return lax.platform_dependent(*operands, cpu=from_logits, default=from_masses)


@expected_log_weight.defjvp
def _(axes, absent, primals, tangents):
    q, x, beta, where, stats, _ = primals
    moved = q * _log_weight_tangent((x, beta, where, stats), tangents[1:3], axes)
    moved += finite_log_weights(x, beta, where, stats, axes) * tangents[0]
    moved = moved if absent else jnp.where(live(x, where), moved, 0)
    return expected_log_weight(*primals, axes, absent), total(moved, axes)


def finite_log_weights(x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Logits:
    """log p, and 0 where it is −∞: what a weight on it is moved by."""
    log_p = log_weights(x, beta, where, stats, axes)
    return jnp.where(log_p == -jnp.inf, 0, log_p)


@jax.custom_jvp
def times_log(y: Array, log_p: Array) -> Array:
    """y log p with 0 · log 0 = 0, in value and in every derivative."""
    return reference.times_log(y, log_p)


@times_log.defjvp
def _(primals, tangents):
    y, log_p = primals
    bounded = jnp.where(log_p == -jnp.inf, 0, log_p)
    return times_log(y, log_p), bounded * tangents[0] + y * tangents[1]
