"""A linear layer and its cotangents, for a block of tokens and classes.

z  =  x W + b,  with a soft cap c tanh((x W + b) / c)          one row a token, one column a class

u    =  z_bar sech²(v)            v = (x W + b) / c                                           (15)
x_bar  =  u Wᵀ      W_bar  =  Σ xᵀ u      b_bar  =  Σ u      c_bar  =  Σ z_bar (tanh v − v sech² v)    (16)

Gains make cosines of the products, r_i a_j ⟨x_i, w_j⟩ for inverse lengths r and a. Of several centers of a class the
nearest counts: the largest of their logits, side by side in W. A shift is added to the logit of the label.

r_bar  =  ⟨x, x_bar⟩ / r          a_bar  =  ⟨w, w_bar⟩ / a          with u r a for u in x_bar and W_bar         (17)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core import accurate, blocks, dtypes
from jsoftmax._core.labels import at_label
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
    row_gain: Any = None  # [N, 1]
    class_gain: Any = None  # [1, V], or [1, V K] of K centers each
    shift: Any = None  # [N, 1]

    def options(self):
        return Options(self.smoothing, self.z_loss, None)


class Form(NamedTuple):
    """What is known of a layer without a number."""

    class_axis: int = 0  # of the weight
    centers: int = 1  # of each class
    precise: bool = False  # products of float32 are not rounded to fewer bits on the way


def product(x, w, form):
    """x W in float32 or wider."""
    numbers = (((1,), (1 - form.class_axis,)), ((), ()))
    precision = lax.Precision.HIGHEST if form.precise else None
    return lax.dot_general(x, w, numbers, precision=precision, preferred_element_type=dtypes.wide(x.dtype))


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


def logits(layer, form):
    """(Products with gains and bias, logits)."""
    raw = product(layer.inputs, layer.weight, form)
    raw = raw if layer.row_gain is None else raw * layer.row_gain
    raw = raw if layer.class_gain is None else raw * layer.class_gain
    raw = raw if layer.bias is None else raw + layer.bias
    z = raw if layer.soft_cap is None else capped(raw, layer.soft_cap)
    return raw, z if form.centers == 1 else jnp.max(_by_center(z, form), -1)


def _by_center(a, form):
    return a.reshape(a.shape[0], a.shape[1] // form.centers, form.centers)


def _to_centers(z_bar, raw, form):
    """To the nearest center; to all of them evenly that are as near."""
    each = _by_center(raw, form)
    nearest = (each == jnp.max(each, -1, keepdims=True)).astype(z_bar.dtype)
    share = nearest / jnp.maximum(jnp.sum(nearest, -1, keepdims=True), 1)
    return (z_bar[..., None] * share).reshape(raw.shape)


def pull(shared, z_bar, raw, layer, kept, wanted, form, start=0):
    """(15), (16), (17): (shared + what the tokens have in common, what is of each token), for classes from `start` on.

    Of tokens that are not `kept` nothing goes on. None in `shared` stands for nothing yet. What gains of classes get is
    made of all of W_bar, in `gained`.
    """
    x, w, cap, row_gain, class_gain = layer.inputs, layer.weight, layer.soft_cap, layer.row_gain, layer.class_gain
    start, class_axis = start * form.centers, form.class_axis
    raw = raw if cap is None and form.centers == 1 else jnp.where(kept, raw, 0)
    turned = z_bar if form.centers == 1 else _to_centers(z_bar, raw, form)
    capped_bar = turned
    turned = turned if cap is None else turned * cap_slope(raw, cap)
    own = Layer(*(None for _ in layer))
    if wanted.bias:
        shared = shared._replace(bias=blocks.add_at(shared.bias, jnp.sum(turned, 0, keepdims=True), start, 1))
    if wanted.soft_cap:
        cap_bar = jnp.sum(capped_bar * _cap_turn(raw, cap), keepdims=True)
        shared = shared._replace(soft_cap=_plus(shared.soft_cap, cap_bar))
    gain = row_gain if row_gain is None else jnp.where(kept, row_gain, 0)
    turned = turned if gain is None else turned * gain
    u = (turned if class_gain is None else turned * class_gain).astype(x.dtype)
    if wanted.inputs or wanted.row_gain:
        x_bar = lax.dot_general(u, w, (((1,), (class_axis,)), ((), ())), preferred_element_type=turned.dtype)
        x_bar = jnp.where(kept, x_bar, 0)
        along = _along(jnp.where(kept, x, 0), x_bar, gain, 1) if wanted.row_gain else None
        own = own._replace(inputs=x_bar if wanted.inputs else None, row_gain=along)
    if wanted.weight or wanted.class_gain:
        shared = shared._replace(weight=_add_outer(shared.weight, jnp.where(kept, x, 0), u, class_axis, start))
    return shared, own


def gained(bars, layer, wanted, form):
    """`bars` with those of the gains of classes, from all of W_bar."""
    if wanted.class_gain:
        along = _along(layer.weight, bars.weight, layer.class_gain.reshape(-1, 1), 1 - form.class_axis)
        bars = bars._replace(class_gain=along.reshape(layer.class_gain.shape))
    return bars if wanted.weight else bars._replace(weight=None)


def _along(x, x_bar, gain, axis):
    """The cotangent of the gain of each vector in a product, [N, 1]; 0 where that is 0, and all of the vector's too."""
    total = jnp.sum(x.astype(gain.dtype) * x_bar.astype(gain.dtype), axis).reshape(-1, 1)
    return jnp.where(gain == 0, 0, total / jnp.where(gain == 0, 1, gain))


def shifted(z, layer, labels, index):
    """`z` with the shift at the label, for classes with this `index`."""
    return z if layer.shift is None else jnp.where(at_label(index, labels, z), z + layer.shift, z)


def _plus(a, b):
    return b if a is None else a + b


def _add_outer(total, x, u, class_axis, start):
    """`total` + xᵀ u, at the classes of u. In parts that stay in the cache: a product with nothing else to do on CPU
    writes what the sum then reads again, which takes half as long as the product."""

    def outer(x, u):
        a, b = (x, u) if class_axis else (u, x)
        return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=dtypes.wide(x.dtype))

    def part(total, x, u, at, length):
        return blocks.add_at(total, outer(x, lax.dynamic_slice_in_dim(u, at, length, 1)), start + at, class_axis)

    def in_parts(total, x, u):
        step = lambda total, at, length: part(total, x, u, at, length)  # noqa: E731
        return blocks.over_slices(step, total, u.shape[1], max(CACHED // x.shape[1], 128))

    if total is None:
        return outer(x, u)
    whole = lambda total, x, u: part(total, x, u, 0, u.shape[1])  # noqa: E731
    return lax.platform_dependent(total, x, u, cpu=in_parts, default=whole)


def part_of(layer, start, length, form):
    """The layer with the classes from `start` on."""

    def cut(a, axis):
        return a if a is None else lax.dynamic_slice_in_dim(a, start * form.centers, length * form.centers, axis)

    w, b, gain = cut(layer.weight, form.class_axis), cut(layer.bias, 1), cut(layer.class_gain, 1)
    return layer._replace(weight=w, bias=b, class_gain=gain)
