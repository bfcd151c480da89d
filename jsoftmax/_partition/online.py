"""(peak, excess) in one read of the logits: the formula of accelerators, where a read costs more than an exponential.

A set of classes has (m, r, n): its peak, Σ_{x_j ≠ m} exp(t_j) and the number of classes at the peak. Of two sets with
m₁ > m₂ the union has

    m = m₁        r = r₁ + (r₂ + n₂) exp(β (m₂ − m₁))        n = n₁

and for m₁ = m₂ both sums; this is associative and commutative, and one `lax.reduce` over it is the online normaliser
of Milakov & Gimelshein (2018), arXiv:1805.02867, with the ties counted: s = r + (n − 1) is (2) of `reference`, and
nothing cancels in it. A device rounds r once for each class that it goes through in turn, and it goes through the parts
of a row at once.

On XLA:CPU it is 4 to 11 times as slow as one reduction after another.
"""

import functools

import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core import accurate
from jsoftmax._core.axes import class_index
from jsoftmax._core.dtypes import widen
from jsoftmax._core.labels import at_label
from jsoftmax._core.mesh import is_explicit
from jsoftmax._core.types import Axes, Labels, Logits, Mask, Rows
from jsoftmax._partition import classes
from jsoftmax._partition.reference import Statistics, checked


def suits(x: Logits, axes: Axes) -> bool:
    """From shape and sharding type alone: few classes are in registers after one read whatever is done with them, and
    on an Explicit mesh JAX has no rule for a reduction of several operands."""
    return not (classes.few(x, axes) or is_explicit(x))


def statistics_of(x: Logits, beta: Rows | None, where: Mask, axes: Axes) -> Statistics:
    """What `reference.statistics_of` gives."""
    return _reduced(x, beta, where, axes, ())[0]


def label_statistics_of(
    x: Logits, labels: Labels, beta: Rows | None, where: Mask, axes: Axes
) -> tuple[Statistics, Rows]:
    """The same, and the logit of the label of each row, 0 if that is no class, from the same read."""
    here = at_label(class_index(x.shape, axes), labels, x)
    stats, (at,) = _reduced(x, beta, where, axes, (jnp.where(here, widen(x), 0),))
    return stats, at


def _reduced(
    x: Logits, beta: Rows | None, where: Mask, axes: Axes, summed: tuple[Logits, ...]
) -> tuple[Statistics, list[Rows]]:
    """The statistics, and sums over each row."""
    z, rest, slope = _singletons(widen(x), beta)
    z = z if where is None else jnp.where(where, z, -jnp.inf)
    rest = rest if where is None else jnp.where(where, rest, 0)
    sets = (z, rest, jnp.ones_like(z), *summed, *slope)
    empty = [jnp.array(v, z.dtype) for v in (-jnp.inf, *(0 for _ in sets[1:]))]
    found = lax.reduce(sets, tuple(empty), functools.partial(_union, len(summed)), axes)
    highest, rest, count, *sums = (lax.expand_dims(a, sorted(axes)) for a in found)
    nothing, poison = highest == -jnp.inf, 0 * rest
    peak = jnp.where(nothing, jnp.where(jnp.isnan(poison), jnp.inf, 0), _turned_back(highest, beta) + poison)
    stats = checked(peak, jnp.where(nothing, poison - 1, rest + (count - 1)), beta)
    return stats, sums[: len(summed)]


def _singletons(x: Logits, beta: Rows | None) -> tuple[Logits, Logits, list[Logits]]:
    """(m, r) of each class by itself, the logits in the order of β x with −∞ the least; and |β|, as an operand.

    A reduction can close over nothing. Where β < 0 a +∞ is least too, and says so in r.
    """
    if beta is None:
        return x, jnp.zeros_like(x), []
    infinite = (x == jnp.inf) & (beta < 0)
    z = jnp.where((x == -jnp.inf) | infinite, -jnp.inf, x * turn(beta))
    return z, jnp.where(infinite, jnp.nan, 0).astype(x.dtype), [jnp.broadcast_to(_steepness(beta), x.shape)]


def _union(summed: int, a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    (m1, r1, n1, *more1), (m2, r2, n2, *more2) = a, b
    sums = (v1 + v2 for v1, v2 in zip(more1[:summed], more2[:summed], strict=True))
    tied, first = m1 == m2, m1 > m2
    slope = [lax.max(s1, s2) for s1, s2 in zip(more1[summed:], more2[summed:], strict=True)]
    factor = _decay(lax.abs(m1 - m2), *slope)
    apart = lax.select(first, r1, r2) + (lax.select(first, r2, r1) + lax.select(first, n2, n1)) * factor
    count = lax.select(tied, n1 + n2, lax.select(first, n1, n2))
    return lax.max(m1, m2), lax.select(tied, r1 + r2, apart), count, *sums, *slope


def _decay(distance: Array, slope: Array | None = None) -> Array:
    """exp(−|β| · distance) for a distance that is not 0, by steps of which none makes 0 · ∞."""
    if slope is None:
        return accurate.exp(-distance)
    tiny = jnp.finfo(slope.dtype).tiny
    flat = slope < 2 * tiny  # a subnormal factor may count as 0; |β| < tiny, as in `reference.frame`
    t = distance * lax.select(flat, lax.full_like(slope, tiny), slope)
    decay = accurate.exp(-lax.select(flat, t * tiny, t))
    # a distance may count as 0 for being subnormal
    return lax.select(slope == jnp.inf, lax.full_like(slope, 0), decay)


def turn(beta: Rows) -> Rows:
    """The sign of β; half of it for |β| < 1, where β (x − m) may be a number though x − m overflows."""
    return jnp.where(jnp.abs(beta) < 1, 0.5, 1).astype(beta.dtype) * jnp.where(beta < 0, -1, 1).astype(beta.dtype)


def _steepness(beta: Rows) -> Rows:
    return jnp.abs(beta / turn(beta))


def _turned_back(peak: Rows, beta: Rows | None) -> Rows:
    return peak if beta is None else peak / turn(beta)
