"""Lengths of vectors, and the angle between two of them.

    e  =  x / |x|,  f  =  y / |y|          θ  =  2 atan2(|e − f|, |e + f|)                                      (1)

    |x|˙  =  ⟨e, ẋ⟩          θ˙  =  −⟨t, ẋ⟩ / |x| − ⟨s, ẏ⟩ / |y|                                              (2)

t, of length 1, points from e along the sphere to f, and s from f to e: the slopes are never above 1/|x|, whereas that
of an arc cosine is infinite at 0 and π. There, where nothing is on the way, t and s are 0. A vector without a length
has no direction: e is 0, and the angle to any other is π/2, as its cosine of 0 says.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core import blocks, dtypes, mesh


def inverse_unit(x: Array) -> Array:
    """The power of two that brings the largest entry of each vector near 1, so that no square is out of range."""
    largest = jnp.max(jnp.abs(lax.stop_gradient(x)), -1, keepdims=True, initial=0).astype(dtypes.wide(x.dtype))
    info = jnp.finfo(x.dtype)  # 2 to its exponents, and to these turned round, are normal numbers
    exponent = jnp.clip(jnp.frexp(largest)[1], info.minexp + 2, info.maxexp - 2)
    return jnp.ldexp(jnp.ones_like(largest), -exponent).astype(x.dtype)


@jax.custom_jvp
def length(x: Array) -> Array:
    """|x| along the last axis, which stays, float32 or wider."""
    x = x.astype(dtypes.wide(x.dtype))
    u = inverse_unit(x)
    x = x * u
    return _root(_square(x)) / u


@length.defjvp
def _(primals, tangents):
    e = direction(*primals)
    return length(*primals), jnp.sum(e * tangents[0].astype(e.dtype), -1, keepdims=True)


def inverse(lengths: Array) -> Array:
    """1/|x|; 0 of a vector without one."""
    none = lengths < jnp.finfo(lengths.dtype).tiny
    return jnp.where(none, 0, 1 / jnp.where(none, 1, lengths))


def inverse_lengths(x: Array) -> Array:
    """1/|x| of many vectors [N, D]: [N, 1]. Their squares are in range nearly always, and then need no other unit."""
    wide = dtypes.wide(x.dtype)

    def of_block(found, start, count):
        part = lax.dynamic_slice_in_dim(x, start, count)
        return lax.dynamic_update_slice_in_dim(found, inverse(length(part)), start, 0)

    def in_units():
        start, _ = mesh.vary(jnp.zeros((x.shape[0], 1), wide), x)
        return blocks.over_slices(of_block, start, x.shape[0], _vectors(x))

    square = _square(x.astype(wide))
    far = jnp.finfo(wide).max ** 0.75
    near = (square > 1 / far) & (square < far) | jnp.isnan(square)
    near |= jnp.max(jnp.abs(x), -1, keepdims=True, initial=0) == 0
    return lax.cond(jnp.all(near), lambda: inverse(_root(square)), in_units)


def pull_inverse_lengths(total: Array, x: Array, a: Array, a_bar: Array) -> Array:
    """`total` − ā a² e: the cotangent of x for that of its inverse lengths a."""

    def of_block(total, start, count):
        here, part, r, r_bar = (lax.dynamic_slice_in_dim(v, start, count) for v in (total, x, a, a_bar))
        turn = jnp.where(r == 0, 0, r_bar * r) * r
        return lax.dynamic_update_slice_in_dim(total, here - turn * (part.astype(here.dtype) * r), start, 0)

    return blocks.over_slices(of_block, total, x.shape[0], x.shape[0] if x.size <= LARGE else _vectors(x))


LARGE = 2**26  # more would be copied by XLA on CPU; a loop, which takes twice as long there, changes it in place


def _vectors(x: Array) -> int:
    return max(2**18 // max(x.shape[1], 1), 1)


def direction(x: Array) -> Array:
    """x / |x|, float32 or wider; 0 of a vector without a length."""
    x = x.astype(dtypes.wide(x.dtype))
    u = inverse_unit(x)
    x = x * u
    square = _square(x)
    none = _root(square) / u < jnp.finfo(x.dtype).tiny
    return x * jnp.where(none, 0, 1 / jnp.sqrt(jnp.where(none, 1, square)))


def _square(x):
    return jnp.sum(x * x, -1, keepdims=True)


@jax.custom_jvp
def angle(x: Array, y: Array) -> Array:
    """(1), along the last axis, which stays."""
    e, f = direction(x), direction(y)
    apart = 2 * jnp.arctan2(_root(_square(e - f)), _root(_square(e + f)))
    return jnp.where(_undirected(e, f), jnp.pi / 2, apart)


@angle.defjvp
def _(primals, tangents):
    """(2)."""
    (x, y), (e, f) = primals, map(direction, primals)
    theta, moved = angle(x, y), jnp.zeros((), e.dtype)
    for here, there, at, tangent in ((e, f, x, tangents[0]), (f, e, y, tangents[1])):
        way = _way(here, there) * inverse(length(at))
        moved = moved - jnp.sum(way * tangent.astype(way.dtype), -1, keepdims=True)
    return theta, moved


def _way(e: Array, f: Array) -> Array:
    """t: what f − e, or where it is shorter f + e, has beside e; neither cancels.

    Of length 1 before e is taken out of it: near 0 and π it is short, and what rounding left in it along e is not.
    """
    sign = jnp.where(jnp.sum(e * f, -1, keepdims=True) < 0, -1, 1)
    beside = jnp.where(_undirected(e, f), 0, _normal(f - sign * e))
    beside -= jnp.sum(beside * e, -1, keepdims=True) * e
    return jnp.where(_square(beside) < (8 * jnp.finfo(e.dtype).eps) ** 2, 0, _normal(beside))


def _normal(v: Array) -> Array:
    square = _square(v)
    return jnp.where(square == 0, 0, v / jnp.sqrt(jnp.where(square == 0, 1, square)))


def _root(square):
    none = square == 0
    return jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, square)))


def _undirected(e, f):
    return (_square(e) == 0) | (_square(f) == 0)
