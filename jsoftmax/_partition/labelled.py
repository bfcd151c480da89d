"""The row as its label sees it: what a cross-entropy of integer labels is made of.

    e_j = exp(t_j)          rest = Σ_{j≠y} e_j          1 − p_y = rest / (rest + e_y)

Seen from the label nothing cancels: rest is a sum over the others. On CPU, where the sharding is not part of the type
and the classes are not few, the array of e_j is made once, 0 is written at the label, and in value and gradient
together that array becomes the gradient: one exponential for each logit and no array beside the result. Elsewhere the
label is compared with the index of every class, and the row summed as in `reference`.
"""

import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core.axes import class_count, class_index, names, positions, total
from jsoftmax._core.labels import at_label, is_class, put, take
from jsoftmax._core.mesh import is_explicit
from jsoftmax._core.types import Axes, ClassAxes, Labels, Logits, Mask, Rows
from jsoftmax._partition import blocked, classes, reference
from jsoftmax._partition.reference import Frame, Statistics, live, share


def by_index(x: Logits, axes: ClassAxes) -> bool:
    """Whether the label's entry is looked up, from shape and sharding type alone."""
    return x.size > 0 and len(axes) > 0 and not (names(axes) or classes.few(x, axes) or is_explicit(x))


def pick(a: Array, labels: Labels, x: Logits, axes: ClassAxes) -> Rows:
    """What `a`, which broadcasts to `x`, has at the label of each row; anything if that is no class.

    A gather on TPU may rearrange all of the logits first; there every index is compared with the label.
    """

    def looked_up(a, labels, x):
        return take(a, labels, x.shape, positions(axes))

    def compared(a, labels, x):
        return classes.total(at, axes, x, a, labels, classes.INDEX).astype(a.dtype)

    def at(x, a, labels, index):
        return jnp.where(at_label(index, labels, x), a, jnp.zeros((), a.dtype))

    if not by_index(x, axes):
        return compared(a, labels, x)
    if all(a.shape[i] == 1 < x.shape[i] for i in positions(axes)):
        return a
    return lax.platform_dependent(a, labels, x, tpu=compared, default=looked_up)


def shown(where: Mask, labels: Labels, x: Logits, axes: ClassAxes) -> Mask:
    """Whether the label of each row is not masked."""
    if where is None:
        return None
    return pick(where.astype(jnp.int32), labels, x, axes) > 0


def _others(f: Frame, x: Logits, labels: Labels, where: Mask, axes: ClassAxes) -> tuple[Logits, Rows]:
    """(e with 0 written in place at the label, e_y)."""
    at = reference.masses_in(f, pick(x, labels, x, axes), shown(where, labels, x, axes))
    return put(reference.masses_in(f, x, where), labels, positions(axes), 0), at


def excess_of(
    x: Logits, labels: Labels, beta: Rows | None, where: Mask, peak: Rows, axes: Axes, fine: bool, alone: bool
) -> Rows:
    """The excess for XLA:CPU; without `fine` exact beside 1 only where the label is not at the peak.

    `alone` tells that no gradient is made of the same exponentials.
    """
    f, below = reference.frame(beta, peak), None
    if alone and not fine and blocked.suits(x, where, axes):
        rest, at = blocked.rest_in(f, x, labels), reference.masses_in(f, pick(x, labels, x, axes), where)
    else:
        e, at = _others(f, x, labels, where, axes)
        below = total(e - jnp.floor(e), axes) if fine else None
        rest = total(e, axes)
    excess = (rest - 1) + at
    excess = excess if below is None else jnp.where((rest >= 1) & (rest < 2), below + at, excess)
    return jnp.where(at == 1, rest, excess)


def log_weight(
    x: Logits,
    labels: Labels,
    at: Rows | None,
    beta: Rows | None,
    where: Mask,
    stats: Statistics,
    axes: ClassAxes,
) -> Rows:
    """log p at the label of each row, whose logit may be known; 0 if it is no class."""
    at = pick(x, labels, x, axes) if at is None else at
    picked = reference.log_weights(at, beta, shown(where, labels, x, axes), stats)
    return jnp.where(is_class(labels, class_count(x.shape, axes)), picked, 0)


def at_label_bar(g: Rows, level: Rows, at: Rows, stats: Statistics) -> Rows:
    """level p_y − g (1 − p_y) for e_y = `at`."""
    unit = share(stats)
    rest = jnp.where(reference.alone(at, stats.excess), stats.excess * unit, 1 - at * unit)
    return level * (at * unit) - g * rest


def pull(
    g: Rows,
    level: Rows,
    even: Rows | None,
    x: Logits,
    labels: Labels,
    used: Rows,
    beta: Rows | None,
    where: Mask,
    stats: Statistics,
    axes: ClassAxes,
) -> Logits:
    """g (p_j − δ_jy) + level p_j − even, 1 − p_y as above and `even` at live classes; 0 in rows that are not used."""

    def looked_up(f, x, labels, where):
        return _others(f, x, labels, where, axes)

    def in_turn(f, x, labels, where):
        e = reference.masses_in(f, x, where)
        return e, e

    operands = (reference.frame(beta, stats.peak), x, labels, where)
    unit = share(stats)

    def at_classes(e, at):
        at_y = at_label(class_index(x.shape, axes), labels, x)
        y = jnp.where(at_y, at_label_bar(g, level, at, stats), e * ((g + level) * unit))
        y = y if even is None else y - jnp.where(live(x, where), even, 0)
        return jnp.where(used, y, 0)

    if not by_index(x, axes):
        return at_classes(*in_turn(*operands))
    return lax.platform_dependent(
        *operands, cpu=lambda *o: at_classes(*looked_up(*o)), default=lambda *o: at_classes(*in_turn(*o))
    )
