"""(peak, excess) in one read of the logits: the formula of accelerators, where a read costs more than an exponential.

A set of classes has (m, r, n): its peak, Σ_{x_j ≠ m} exp(t_j) and the number of classes at the peak. Of two sets with
m₁ > m₂ the union has

    m = m₁        r = r₁ + (r₂ + n₂) exp(β (m₂ − m₁))        n = n₁

and for m₁ = m₂ both sums; this is associative and commutative, and one `lax.reduce` over it is the online normaliser
of Milakov & Gimelshein (2018), arXiv:1805.02867, with the ties counted: s = r + (n − 1) is (2) of `reference`, and
nothing cancels in it. A device rounds r once for each class that it goes through in turn, and it goes through the parts
of a row at once.

Of masses q_j beside the logits a set has their sum a, the part o of it that is not at the peak, and their exponents,
d = −Σ q_j t_j. With m₁ > m₂ the union has

    a = a₁ + a₂        o = o₁ + a₂        d = d₁ + d₂ + β (m₁ − m₂) a₂

On XLA:CPU it is 4 to 11 times as slow as one reduction after another.
"""

import functools
from typing import NamedTuple

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


class Masses(NamedTuple):
    """Of each row: their sum, that of those beside the peak, and −Σ q_j t_j with 0 · ∞ = 0."""

    total: Rows
    beside: Rows
    gap: Rows


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


def mass_statistics_of(q: Logits, x: Logits, beta: Rows | None, where: Mask, axes: Axes) -> tuple[Statistics, Masses]:
    """The same, and what the masses q are, from one read of both. What is absent is far from any peak."""
    stats, (total, beside, gap) = _reduced(x, beta, where, axes, masses=(q,))
    return stats, Masses(total, beside, gap)


def sums_of(v: Logits, x: Logits, beta: Rows | None, where: Mask, axes: Axes) -> tuple[Rows, Rows]:
    """Σ v over all, masked and absent too, and over those that are not at the peak."""
    z = _ordered(x, beta, where)
    v = v.astype(z.dtype)
    empty = tuple(jnp.array(a, z.dtype) for a in (-jnp.inf, 0, 0))
    _, total, beside = lax.reduce((z, v, jnp.zeros_like(v)), empty, _sums, axes)
    return lax.expand_dims(total, sorted(axes)), lax.expand_dims(beside, sorted(axes))


def _sums(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    (m1, *one), (m2, *other) = a, b
    total, beside, _ = _united_sums(m1 == m2, m1 > m2, (one[0], one[1]), (other[0], other[1]))
    return lax.max(m1, m2), total, beside


def _reduced(
    x: Logits,
    beta: Rows | None,
    where: Mask,
    axes: Axes,
    summed: tuple[Logits, ...] = (),
    masses: tuple[Logits, ...] = (),
) -> tuple[Statistics, list[Rows]]:
    """The statistics, sums over each row, and (a, o, d) of masses."""
    z, rest, slope = _singletons(widen(x), beta)
    z = z if where is None else jnp.where(where, z, -jnp.inf)
    rest = rest if where is None else jnp.where(where, rest, 0)
    # each absent one by itself, for of two signs their sum may be anything
    far = [jnp.where((z == -jnp.inf) & (q != 0), q * jnp.inf, 0) for q in masses]
    split = [part for q, d in zip(masses, far, strict=True) for part in (q, jnp.zeros_like(q), d)]
    sets = (z, rest, jnp.ones_like(z), *summed, *split, *slope)
    empty = [jnp.array(v, z.dtype) for v in (-jnp.inf, *(0 for _ in sets[1:]))]
    found = lax.reduce(sets, tuple(empty), functools.partial(_union, len(summed), len(masses)), axes)
    highest, rest, count, *sums = (lax.expand_dims(a, sorted(axes)) for a in found)
    nothing, poison = highest == -jnp.inf, 0 * rest
    peak = jnp.where(nothing, jnp.where(jnp.isnan(poison), jnp.inf, 0), _turned_back(highest, beta) + poison)
    stats = checked(peak, jnp.where(nothing, poison - 1, rest + (count - 1)), beta)
    return stats, sums[: len(summed) + len(split)]


def _ordered(x: Logits, beta: Rows | None, where: Mask) -> Logits:
    """The logits in the order of β x, with −∞ the least and where masked."""
    z, *_ = _singletons(widen(x), beta)
    return z if where is None else jnp.where(where, z, -jnp.inf)


def _singletons(x: Logits, beta: Rows | None) -> tuple[Logits, Logits, list[Logits]]:
    """(m, r) of each class by itself, the logits in the order of β x with −∞ the least; and |β|, as an operand.

    A reduction can close over nothing. Where β < 0 a +∞ is least too, and says so in r.
    """
    if beta is None:
        return x, jnp.zeros_like(x), []
    infinite = (x == jnp.inf) & (beta < 0)
    z = jnp.where((x == -jnp.inf) | infinite, -jnp.inf, x * turn(beta))
    return z, jnp.where(infinite, jnp.nan, 0).astype(x.dtype), [jnp.broadcast_to(_steepness(beta), x.shape)]


def _union(summed: int, masses: int, a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    (m1, r1, n1, *more1), (m2, r2, n2, *more2) = a, b
    sums = [v1 + v2 for v1, v2 in zip(more1[:summed], more2[:summed], strict=True)]
    tied, first, distance = m1 == m2, m1 > m2, lax.abs(m1 - m2)
    split: list[Array] = []
    rest1, rest2 = more1[summed:], more2[summed:]
    slope = [lax.max(s1, s2) for s1, s2 in zip(rest1[3 * masses :], rest2[3 * masses :], strict=True)]
    for _ in range(masses):
        split += _united_masses(tied, first, _exponent(distance, *slope), rest1[:3], rest2[:3])
        rest1, rest2 = rest1[3:], rest2[3:]
    factor = _decay(distance, *slope)
    apart = lax.select(first, r1, r2) + (lax.select(first, r2, r1) + lax.select(first, n2, n1)) * factor
    count = lax.select(tied, n1 + n2, lax.select(first, n1, n2))
    return lax.max(m1, m2), lax.select(tied, r1 + r2, apart), count, *sums, *split, *slope


def _exponent(distance: Array, slope: Array | None = None) -> Array:
    """|β| · distance for one that is not 0, by no step that makes 0 · ∞: infinite if one of them is."""
    if slope is None:
        return distance
    infinite = lax.full_like(distance, jnp.inf)
    # a distance may count as 0 for being subnormal
    return lax.select((distance == infinite) | (slope == infinite), infinite, distance * slope)


def _united_masses(
    tied: Array, first: Array, exponent: Array, one: list[Array], other: list[Array]
) -> tuple[Array, Array, Array]:
    (a1, o1, d1), (a2, o2, d2) = one, other
    total, beside, lower = _united_sums(tied, first, (a1, o1), (a2, o2))
    zero = lax.full_like(lower, 0)
    return total, beside, (d1 + d2) + lax.select(lower == zero, zero, exponent * lower)


def _united_sums(
    tied: Array, first: Array, one: tuple[Array, Array], other: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    """(a, o), and what of it has just come to be beside the peak."""
    (a1, o1), (a2, o2) = one, other
    lower = lax.select(tied, lax.full_like(a1, 0), lax.select(first, a2, a1))
    return a1 + a2, lax.select(tied, o1 + o2, lax.select(first, o1, o2) + lower), lower


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
