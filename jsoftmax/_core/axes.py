"""Class axes: which part of a shape they leave, and how the smaller operands line up with them.

The classes of a row lie along some axes of the array and, inside `shard_map`, on the devices along some mesh axes. As
class axes they are positions in the array and, behind them, names of mesh axes. In the order of flat labels come the
classes of one device after those of another.

Every operand is brought to the rank of the logits, with size 1 where it does not vary, so that nothing below
relies on rank promotion. Class axes keep the order in which they were given: it is the order of flat labels.
"""

import math

import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core.types import ClassAxes


def positions(axes: ClassAxes) -> tuple[int, ...]:
    return tuple(i for i in axes if not isinstance(i, str))


def names(axes: ClassAxes) -> tuple[str, ...]:
    return tuple(name for name in axes if isinstance(name, str))


def total(v: Array, axes: ClassAxes) -> Array:
    """Σ over the classes, with size 1 along them."""
    y = jnp.sum(v, positions(axes), keepdims=True)
    return lax.psum(y, names(axes)) if names(axes) else y


def row_shape(shape: tuple[int, ...], axes: ClassAxes, keepdims: bool = False) -> tuple[int, ...]:
    """`shape` without the class axes, or with size 1 there."""
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def class_count(shape: tuple[int, ...], axes: ClassAxes) -> int:
    """On all devices."""
    here = math.prod(shape[i] for i in positions(axes))
    return here * lax.axis_size(names(axes)) if names(axes) else here


def class_index(shape: tuple[int, ...], axes: ClassAxes) -> Array:
    """Flat index of every class, int32, of size 1 outside the class axes."""
    index = jnp.zeros((1,) * len(shape), jnp.int32)
    if names(axes):
        index += lax.axis_index(names(axes))
    for i in positions(axes):
        along = tuple(n if k == i else 1 for k, n in enumerate(shape))
        index = index * shape[i] + lax.broadcasted_iota(jnp.int32, along, i)
    return index


def lift(operand: Array, ndim: int) -> Array:
    """`operand` with leading axes of size 1 up to rank `ndim`."""
    return lax.expand_dims(operand, range(ndim - operand.ndim))


def lift_rows(operand: Array, ndim: int, axes: ClassAxes, keepdims: bool) -> Array:
    """An operand that broadcasts to the rows, at rank `ndim` with size 1 along the class axes."""
    if keepdims:
        return lift(operand, ndim)
    return lax.expand_dims(lift(operand, ndim - len(positions(axes))), positions(axes))


def lift_classes(operand: Array, shape: tuple[int, ...], axes: ClassAxes) -> Array:
    """One number for each class, in the order of flat labels, at the rank of `shape` with size 1 outside `axes`."""
    axes = positions(axes)
    if len(axes) == 1:
        return lax.expand_dims(operand, [i for i in range(len(shape)) if i != axes[0]])
    operand = operand.reshape([shape[i] for i in axes])
    operand = lax.transpose(operand, sorted(range(len(axes)), key=lambda k: axes[k]))
    return lax.expand_dims(operand, [i for i in range(len(shape)) if i not in axes])


def one_a_row(operand: Array, rows: tuple[int, ...]) -> Array:
    """An operand that broadcasts to the rows, one behind the other: [N, 1], or [1, 1] if it is the same for all."""
    if operand.size == 1:
        return operand.reshape(1, 1)
    return jnp.broadcast_to(lift(operand, len(rows)), rows).reshape(-1, 1)


def sum_to(cotangent: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of broadcasting `shape` to the shape of `cotangent`; ranks are equal."""
    spread = tuple(i for i, n in enumerate(shape) if n == 1 and cotangent.shape[i] != 1)
    return jnp.sum(cotangent, spread, keepdims=True) if spread else cotangent


def drop(rows: Array, axes: ClassAxes, keepdims: bool = False) -> Array:
    return rows if keepdims else lax.squeeze(rows, positions(axes))
