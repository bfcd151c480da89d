"""Logits of a few classes, whose vectors are looked up.

    z  =  ⟨w_i, x⟩ + b_i                 i as each example has it, or the same for all

    x̄  =  Σ z̄ w_i                        w̄_i  =  Σ z̄ x  over all that look at i                              (1)

Only vectors that are looked at get a gradient. What differs from example to example is gone through turn by turn, so
that there are no more than N vectors at a time.
"""

import jax.numpy as jnp
from jax import lax

from jsoftmax._core import dtypes, mesh


def valid(ids, classes):
    """What is no class is behind the last, where nothing is looked up."""
    return jnp.where((ids >= 0) & (ids < classes), ids, classes)


def look_up(a, ids, axis=0):
    """Entries of `a` on `axis`, with the axes of `ids` in front; NaN for what is no class."""
    if a.shape[axis] == 0:
        return jnp.full(ids.shape + a.shape[:axis] + a.shape[axis + 1 :], jnp.nan, a.dtype)
    found = a.at[(slice(None),) * axis + (ids,)].get(mode="fill", fill_value=jnp.nan)
    return jnp.moveaxis(found, range(axis, axis + ids.ndim), range(ids.ndim))


def _add(a, ids, values, axis):
    """`a` with `values` added at `ids` on `axis`; nothing for what is no class."""
    values = jnp.moveaxis(values, range(ids.ndim), range(axis, axis + ids.ndim))
    return a.at[(slice(None),) * axis + (ids,)].add(values, mode="drop")


def of_each(x, weight, bias, ids, axis=0):
    """z of classes [N, …] for inputs x [N, D], float32 or wider; NaN for what is no class."""
    wide = dtypes.wide(x.dtype)
    vectors = look_up(weight, ids, axis).astype(wide)
    z = jnp.sum(vectors * x.astype(wide).reshape(x.shape[0], *(1,) * (ids.ndim - 1), x.shape[1]), -1)
    return z if bias is None else z + look_up(bias, ids)


def in_turn(x, weight, bias, ids, axis=0):
    """z of classes [K, N]."""
    return lax.map(lambda ids: of_each(x, weight, bias, ids, axis), ids)


def of_all(x, weight, bias, ids, axis=0):
    """z [N, S] of classes [S]."""
    vectors = look_up(weight, ids, axis)
    z = lax.dot_general(x, vectors, (((1,), (1,)), ((), ())), preferred_element_type=dtypes.wide(x.dtype))
    return z if bias is None else z + look_up(bias, ids)[None]


def nothing(x, weight, bias):
    """Cotangents (x̄, w̄, b̄) to add to, float32 or wider."""
    wide = dtypes.wide(x.dtype)
    b = bias if bias is None else jnp.zeros(bias.shape, bias.dtype)
    return mesh.vary(jnp.zeros(x.shape, wide), jnp.zeros(weight.shape, wide), b, x)[:3]


def pull_in_turn(bars, z_bar, x, weight, ids, axis=0):
    """(1) added to `bars`, for z_bar [K, N]. Where z_bar is 0 a vector may hold anything; x is 0 where it might."""

    def back(carry, turn):
        x_bar, weight_bar = carry
        ids, z_bar = turn
        vectors = look_up(weight, ids, axis).astype(z_bar.dtype)
        x_bar += z_bar[:, None] * jnp.where((z_bar == 0)[:, None], 0, vectors)
        return (x_bar, _add(weight_bar, ids, z_bar[:, None] * x.astype(z_bar.dtype), axis)), None

    x_bar, weight_bar, bias_bar = bars
    (x_bar, weight_bar), _ = lax.scan(back, (x_bar, weight_bar), (ids, z_bar))
    return x_bar, weight_bar, bias_bar if bias_bar is None else _add(bias_bar, ids, z_bar, 0)


def pull_of_all(bars, z_bar, x, kept, weight, ids, axis=0):
    """(1) added to `bars`, for z_bar [N, S]; x is 0 where not `kept` [N]."""
    x_bar, weight_bar, bias_bar = bars
    u, vectors = z_bar.astype(x.dtype), look_up(weight, ids, axis)
    moved = lax.dot_general(u, vectors, (((1,), (0,)), ((), ())), preferred_element_type=z_bar.dtype)
    outer = lax.dot_general(u, x, (((0,), (0,)), ((), ())), preferred_element_type=z_bar.dtype)
    bias_bar = bias_bar if bias_bar is None else _add(bias_bar, ids, jnp.sum(z_bar, 0), 0)
    return x_bar + jnp.where(kept[:, None], moved, 0), _add(weight_bar, ids, outer, axis), bias_bar
