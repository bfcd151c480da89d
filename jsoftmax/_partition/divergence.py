"""Kullback–Leibler divergence of two softmaxes with one β, and what its derivatives are made of, closed.

    p = softmax(β x),  q = softmax(β y),  u_j = log p_j − log q_j,  d_j = x_j − y_j

    KL  =  Σ_j κ_j         κ_j  =  p_j u_j − p_j + q_j  =  q_j φ(u_j)  ≥  0      φ(u) = u e^u − expm1(u)      (1)
    ω_j  =  p_j − q_j  =  q_j expm1(u_j)                                                                    (2)
    u_j  =  β d_j − c,     c = log Σ_j q_j e^{β d_j}                                                         (3)
    ∂KL/∂(β x_j)  =  p_j (u_j − KL)         ∂KL/∂(β y_j)  =  −ω_j                                          (4)
    ∂KL/∂β  =  Cov_p(d, u) + Σ_j (κ_j − p_j KL) y_j                                                        (5)

Σ p u is a sum of both signs, the size of |u|, for a result of the size of u². That of (1) has one sign, and is exact
where each u_j is. Of these c is common to all, and an error ε of c is one of ε KL + ε²/2 of the result. The first c is
the difference of two log-excesses, which is off by a rounding of log n; of (2), which adds up to 0, is seen by how
much. What is left of ε is a rounding of Σ |ω|, and by Pinsker's inequality that is of the size of u.

(5) has no two terms that are larger than itself where p and q are nearly equal: E_p[x (u − KL)] − Σ ω y has.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jsoftmax._core import accurate
from jsoftmax._core.axes import total
from jsoftmax._core.dtypes import widen
from jsoftmax._core.types import ClassAxes, Logits, Mask, Rows
from jsoftmax._partition import limits, pullback
from jsoftmax._partition.statistics import (
    Statistics,
    deviation,
    half_gap,
    live,
    live_log_weights,
    log_excess,
    times,
    times_twice,
    weights,
)

NEAR = 0.5  # |u| up to which φ is a series


class Pair(NamedTuple):
    """The logits of p and q, and their statistics."""

    x: Logits
    y: Logits
    beta: Rows | None
    where: Mask
    of_p: Statistics
    of_q: Statistics


class Weights(NamedTuple):
    """Of the entries of a pair: p and q, u where both are present and 0 elsewhere, and where that is."""

    p: Logits
    q: Logits
    u: Logits
    both: Bool[Array, "*shape"]


def series(v: Array) -> Array:
    """φ(v) / v² = Σ_{k≥2} (k−1)/k! v^{k−2} for |v| ≤ ½; 15 terms reach 1e-17.

    By Horner's rule; the scan of jnp.polyval forgets the sharding on an Explicit mesh (jax 0.10.2).
    """
    y = jnp.zeros_like(v)
    for k in range(16, 1, -1):
        y = y * v + (k - 1) / math.factorial(k)
    return y


def _present(x, p, beta, where):
    """Live, and at β = ±∞ at the peak."""
    present = live(x, where)
    return present if beta is None else present & ~(jnp.isinf(beta) & (p == 0))


def _is_empty(stats):
    return stats.excess == -1


def _half_difference(pair, both):
    """d / 2 from the difference of the peaks on; 0 where not both are present. Halves do not overflow."""
    x, y, _, _, of_p, of_q = pair
    each, left = _subtract(widen(x) * 0.5, widen(y) * 0.5)
    common, rest = _subtract(of_p.peak * 0.5, of_q.peak * 0.5)
    return jnp.where(both, (each - common) + (left - rest), 0)


def _subtract(a, b):
    """(a − b, what its rounding leaves): logits that differ by a large constant have lost nothing (Knuth's TwoSum)."""
    s = a - b
    back = s - a
    return s, (a - (s - back)) - (b + back)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _log_ratio(pair: Pair, axes: ClassAxes) -> Logits:
    """u of (3), ±∞ where β d overflows; 0 where not both are present."""
    x, y, beta, where, of_p, of_q = pair
    p, q = weights(x, beta, where, of_p, axes), weights(y, beta, where, of_q, axes)
    both = _present(x, p, beta, where) & _present(y, q, beta, where)
    u = times_twice(beta, _half_difference(pair, both)) - (log_excess(of_p) - log_excess(of_q))
    u = jnp.where(both, u, 0)
    seen = total(_difference(Weights(p, q, u, both)), axes)
    seen = jnp.where(_is_empty(of_p) | _is_empty(of_q), 0, seen)
    return jnp.where(both, u - accurate.log1p(seen), 0)


@_log_ratio.defjvp
def _(axes, primals, tangents):
    ((x, y, beta, where, of_p, of_q),) = primals
    ((x_dot, y_dot, beta_dot, *_),) = tangents
    moved = 0
    for sign, z, z_dot, stats in ((1, x, x_dot, of_p), (-1, y, y_dot, of_q)):

        def log_p(z, *beta, stats=stats):
            return live_log_weights(z, *(beta or (None,)), where, stats, axes)

        given, along = ((z,), (z_dot,)) if beta is None else ((z, beta), (z_dot, beta_dot))
        moved = moved + sign * jax.jvp(log_p, given, along)[1]
    p, q = weights(x, beta, where, of_p, axes), weights(y, beta, where, of_q, axes)
    both = _present(x, p, beta, where) & _present(y, q, beta, where)
    return _log_ratio(*primals, axes), jnp.where(both, moved, 0)


def _weights(pair: Pair, axes: ClassAxes) -> Weights:
    x, y, beta, where, of_p, of_q = pair
    p, q = weights(x, beta, where, of_p, axes), weights(y, beta, where, of_q, axes)
    both = _present(x, p, beta, where) & _present(y, q, beta, where)
    return Weights(p, q, _log_ratio(pair, axes), both)


def _difference(w: Weights) -> Logits:
    """ω of (2): where p is the larger one by far nothing cancels, and q may have underflowed."""
    return jnp.where(w.both & (w.u <= 1), w.q * accurate.expm1(jnp.minimum(w.u, 1)), w.p - w.q)


def _terms(w: Weights) -> Logits:
    """κ of (1); q where p is absent."""
    near, low = jnp.abs(w.u) < NEAR, w.u <= 1
    v = jnp.where(near, w.u, 0)
    # −1000: exp is 0 long before, and −∞ would make a NaN
    t = jnp.where(low & ~near, jnp.maximum(w.u, -1000), 0)
    of_q = jnp.where(near, series(v) * v * v, t * accurate.exp(t) - accurate.expm1(t))
    far = jnp.where(low | (w.p == 0), 1, w.u)
    return jnp.where(w.both & low, w.q * of_q, w.p * (far - 1) + w.q)


def _state(pair: Pair, w: Weights, axes: ClassAxes):
    """Of each row: whether p has a class that q has not, whether p is empty, whether it is NaN."""
    alone = _present(pair.x, w.p, pair.beta, pair.where) & ~w.both
    infinite = total(jnp.where(alone, 1, 0).astype(w.p.dtype), axes) > 0
    return infinite, _is_empty(pair.of_p), jnp.isnan(pair.of_p.excess) | jnp.isnan(pair.of_q.excess)


def _in_reach(w: Weights) -> Weights:
    """Without an infinite u, of which derivatives would be NaN."""
    return w._replace(u=limits.saturate(w.u))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def divergence(pair: Pair, axes: ClassAxes) -> Rows:
    """KL(p ‖ q) of each row, in nats; 0 where p is empty, +∞ where it has a class that q has not."""
    w = _weights(pair, axes)
    infinite, empty, bad = _state(pair, w, axes)
    y = jnp.where(empty, 0, jnp.where(infinite, jnp.inf, total(_terms(w), axes)))
    return jnp.where(bad, jnp.nan, y)


@divergence.defjvp
def _(axes, primals, tangents):
    (pair,) = primals
    ((x_dot, y_dot, beta_dot, *_),) = tangents
    of_x, of_y = pulls(pair, axes)
    moved = of_x * jnp.where(live(pair.x, pair.where), widen(x_dot), 0)
    moved = times(pair.beta, moved + of_y * _unmasked(y_dot, pair.where))
    y_dot = total(moved, axes)
    return divergence(pair, axes), y_dot if pair.beta is None else y_dot + slope(pair, axes) * beta_dot


def _unmasked(y_dot, where):
    return widen(y_dot) if where is None else jnp.where(where, widen(y_dot), 0)


def pulls(pair: Pair, axes: ClassAxes) -> tuple[Logits, Logits]:
    """(4): derivatives by β x and β y. A row at +∞ has the limit of the second, and no first."""
    w = _in_reach(_weights(pair, axes))
    infinite, empty, bad = _state(pair, w, axes)
    of_x = pullback.through_weights(w.u, pair.x, pair.beta, pair.where, pair.of_p, axes)
    of_x = jnp.where(infinite | empty, 0, of_x)
    of_y = jnp.where(empty, 0, -_difference(w))
    poison = jnp.where(bad, jnp.nan, 1)
    return of_x * poison, of_y * poison


def slope(pair: Pair, axes: ClassAxes) -> Rows:
    """(5), one a row; 0 at β = ±∞ and in rows at +∞."""
    w = _in_reach(_weights(pair, axes))
    infinite, empty, bad = _state(pair, w, axes)
    u, half = (deviation(v, w.p, axes) for v in (w.u, _half_difference(pair, w.both)))
    terms = _terms(w)
    rest = terms - w.p * total(terms, axes)
    y = 2 * total((w.p * u) * half, axes) + 2 * total(rest * half_gap(pair.y, pair.where, pair.of_q.peak), axes)
    y = jnp.where(infinite | empty, 0, limits.saturate(y))
    return limits.held(jnp.where(bad, jnp.nan, y), pair.beta, pair.of_p.excess + pair.of_q.excess)
