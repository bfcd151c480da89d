"""A linear layer and its cotangents, for a block of tokens and classes.

z  =  x W + b,  with a soft cap c tanh((x W + b) / c)          one row a token, one column a class

u    =  z_bar sech²(v)            v = (x W + b) / c                                           (15)
x_bar  =  u Wᵀ      W_bar  =  Σ xᵀ u      b_bar  =  Σ u      c_bar  =  Σ z_bar (tanh v − v sech² v)    (16)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core import accurate, blocks, dtypes
from jsoftmax._partition.penalties import Options

CACHED = 2**20  # numbers


class Layer(NamedTuple):
    """What the gradient is taken in; None where not given."""

    inputs: Any  # [N, D]
    weight: Any  # [D, V] or [V, D]
    bias: Any  # [1, V]
    soft_cap: Any  # [1, 1]
    beta: Any  # [N, 1] or [1, 1], as those that follow
    smoothing: Any
    z_loss: Any

    def options(self):
        return Options(self.smoothing, self.z_loss, None)


def product(x, w, class_axis):
    """x W in float32 or wider."""
    numbers = (((1,), (1 - class_axis,)), ((), ()))
    return lax.dot_general(x, w, numbers, preferred_element_type=dtypes.wide(x.dtype))


@jax.custom_jvp
def capped(z: Array, cap: Array) -> Array:
    """c tanh(z / c); an infinite logit stays what it is, and an infinite cap is none."""
    return jnp.where(jnp.isinf(z) | jnp.isinf(cap), z, cap * accurate.tanh(z / cap))


@capped.defjvp
def _(primals, tangents):
    z, cap = primals
    moved = cap_slope(z, cap) * tangents[0]
    return capped(z, cap), moved + _cap_turn(z, cap) * tangents[1]


def cap_slope(z, cap):
    """sech²(z / c), exact where it is small."""
    q = accurate.exp(-2 * jnp.abs(jnp.where(jnp.isinf(z), 0, z) / cap))
    return jnp.where(jnp.isinf(z), 1, 4 * q / ((1 + q) * (1 + q)))


def _cap_turn(z, cap):
    """tanh v − v sech² v = (sinh 2v − 2v) / (cosh 2v + 1), v = z / c."""
    w = jnp.where(jnp.isinf(z), 0, 2 * (jnp.where(jnp.isinf(z), 0, z) / cap))
    small = jnp.abs(w) < 1
    near, far = jnp.where(small, w, 0), jnp.where(small, 1, jnp.minimum(jnp.abs(w), 1000))
    term, series = near * near * near / 6, jnp.zeros_like(near)
    for k in range(5, 20, 2):  # Σ w^k / k! from the third power on: 8 terms reach 1e-17 at 1
        series = series + term
        term = term * (near * near) / (k * (k - 1))
    q = accurate.exp(-far)
    beyond = (1 - q * q - 2 * far * q) / ((1 + q) * (1 + q))
    return jnp.where(small, series / (0.5 * (accurate.exp(near) + accurate.exp(-near)) + 1), jnp.sign(w) * beyond)


def logits(layer, class_axis):
    """(x W + b, the same with its cap)."""
    raw = product(layer.inputs, layer.weight, class_axis)
    raw = raw if layer.bias is None else raw + layer.bias
    return raw, raw if layer.soft_cap is None else capped(raw, layer.soft_cap)


def pull(shared, z_bar, raw, layer, kept, wanted, class_axis, start=0):
    """(15) and (16): (shared + what the tokens have in common, x_bar), for classes from `start` on.

    Of tokens that are not `kept` nothing goes on. None in `shared` stands for nothing yet.
    """
    x, w, _, cap, *_ = layer
    raw = raw if cap is None else jnp.where(kept, raw, 0)
    turned = z_bar if cap is None else z_bar * cap_slope(raw, cap)
    u, x_bar = turned.astype(x.dtype), None
    if wanted.inputs:
        x_bar = lax.dot_general(u, w, (((1,), (class_axis,)), ((), ())), preferred_element_type=turned.dtype)
        x_bar = jnp.where(kept, x_bar, 0)
    if wanted.weight:
        shared = shared._replace(weight=_add_outer(shared.weight, jnp.where(kept, x, 0), u, class_axis, start))
    if wanted.bias:
        shared = shared._replace(bias=_add_at(shared.bias, jnp.sum(turned, 0, keepdims=True), start, 1))
    if wanted.soft_cap:
        shared = shared._replace(soft_cap=_plus(shared.soft_cap, jnp.sum(z_bar * _cap_turn(raw, cap), keepdims=True)))
    return shared, x_bar


def _plus(a, b):
    return b if a is None else a + b


def _add_at(a, b, start, axis):
    """`a` with `b` added from `start` on."""
    if a is None:
        return b
    here = lax.dynamic_slice_in_dim(a, start, b.shape[axis], axis)
    return lax.dynamic_update_slice_in_dim(a, (here + b.astype(a.dtype)), start, axis)


def _add_outer(total, x, u, class_axis, start):
    """`total` + xᵀ u, at the classes of u. In parts that stay in the cache: a product with nothing else to do on CPU
    writes what the sum then reads again, which takes half as long as the product."""

    def outer(x, u):
        a, b = (x, u) if class_axis else (u, x)
        return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=dtypes.wide(x.dtype))

    def part(total, x, u, at, length):
        return _add_at(total, outer(x, lax.dynamic_slice_in_dim(u, at, length, 1)), start + at, class_axis)

    def in_parts(total, x, u):
        step = lambda total, at, length: part(total, x, u, at, length)  # noqa: E731
        return blocks.over_slices(step, total, u.shape[1], max(CACHED // x.shape[1], 128))

    if total is None:
        return outer(x, u)
    whole = lambda total, x, u: part(total, x, u, 0, u.shape[1])  # noqa: E731
    return lax.platform_dependent(total, x, u, cpu=in_parts, default=whole)


def part_of(layer, start, length, class_axis):
    """The layer with the classes from `start` on."""
    w = lax.dynamic_slice_in_dim(layer.weight, start, length, class_axis)
    b = layer.bias if layer.bias is None else lax.dynamic_slice_in_dim(layer.bias, start, length, 1)
    return layer._replace(weight=w, bias=b)
