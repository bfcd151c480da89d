"""Integer labels: 32 bits, no wrapping; compared with an index, or one that is made safe first."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

UNREPRESENTABLE = int(np.iinfo(np.int32).min)  # no class has this index, and no label to be ignored


def as_int32(labels: Array) -> Array:
    """`labels` as int32; what does not fit becomes an index that no class has, instead of wrapping onto one."""
    info = jnp.iinfo(labels.dtype)
    narrow = labels.astype(jnp.int32)
    if info.max <= np.iinfo(np.int32).max:
        return narrow
    fits = labels <= jnp.asarray(np.iinfo(np.int32).max, labels.dtype)
    if info.min < 0:
        fits &= labels >= jnp.asarray(np.iinfo(np.int32).min, labels.dtype)
    return jnp.where(fits, narrow, UNREPRESENTABLE)


def is_ignored(labels: Array, ignore_label: Array | None) -> Array | None:
    """Which of these int32 labels are the one to be ignored; None if none is."""
    if ignore_label is None:
        return None
    return (labels == as_int32(ignore_label)) & (labels != UNREPRESENTABLE)


def is_class(labels: Array, classes: int) -> Array:
    return (labels >= 0) & (labels < classes)


def _indices(labels: Array, shape: tuple[int, ...], axes: tuple[int, ...], along: list[int]) -> Array:
    """Index of each row's label on the axes `along`, of some class if it is none; last axis, behind those of rows."""
    rest, found = jnp.minimum(jnp.maximum(labels, 0), math.prod(shape[i] for i in axes) - 1), {}
    for i in reversed(axes[1:]):
        size = jnp.asarray(shape[i], rest.dtype)
        found[i], rest = lax.rem(rest, size), lax.div(rest, size)
    found[axes[0]] = rest
    return jnp.stack([lax.squeeze(found[i], axes) for i in along], -1)


def take(a: Array, labels: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """What `a`, which broadcasts to `shape`, has at the label of each row; anything if that is no class.

    `labels` has size 1 along `axes`, and a label is the flat index over them in their order. The rows are batching
    dimensions, so that a device keeps to its own.
    """
    rows = [i for i in range(len(shape)) if i not in axes]
    kept = [i for i in range(len(shape)) if a.shape[i] != 1 or (shape[i] == 1 and i in axes)]
    along = [i for i in kept if i in axes]
    if not along:
        return a
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(),
        collapsed_slice_dims=tuple(kept.index(i) for i in along),
        start_index_map=tuple(kept.index(i) for i in along),
        operand_batching_dims=tuple(kept.index(i) for i in kept if i not in axes),
        start_indices_batching_dims=tuple(rows.index(i) for i in kept if i not in axes),
    )
    indices = _indices(labels, shape, axes, along)
    a = lax.squeeze(a, [i for i in range(len(shape)) if i not in kept])
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.expand_dims(lax.gather(a, indices, numbers, (1,) * len(kept), mode=mode), axes)


def put(a: Array, labels: Array, axes: tuple[int, ...], value: float) -> Array:
    """`a` with `value` at the label of each row."""
    rows, along = [i for i in range(a.ndim) if i not in axes], sorted(axes)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(),
        inserted_window_dims=tuple(along),
        scatter_dims_to_operand_dims=tuple(along),
        operand_batching_dims=tuple(rows),
        scatter_indices_batching_dims=tuple(range(len(rows))),
    )
    indices = _indices(labels, a.shape, axes, along)
    values = jnp.full(indices.shape[:-1], value, a.dtype)
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.scatter(a, indices, values, numbers, indices_are_sorted=True, unique_indices=True, mode=mode)


def at_label(index: Array, labels: Array, x: Array) -> Array:
    """Where the class with this `index` is the row's label."""
    # the second factor only carries the sharding of x, which an Explicit mesh wants of a condition too
    return (index == labels) & jnp.ones_like(x, bool)
